"""Areas of 35 lines of real germanium spectra, and steps under strong ones, for docs/spectrum.md.

``PYTHONPATH=tests/helpers python tests/studies/real_areas.py [--write]`` with the published spectra
in COSI_LINEBKG_DATA (see tests/conftest.py); ``--write`` puts the tables into the page. Seconds.

The reference is an independent fit: parabola, Gaussian with tail, step, minimised by scipy's
least_squares on signed roots of the Poisson deviance; nothing of this package takes part in it.
Weak lines take tail and step from the best window of the same detector. Two of its areas have
published values, with which it must agree.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.special import log_ndtr, ndtr
from spectra import real_spectrum
from study import publish, published_data

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts

#: Spectrum, its window [keV], width of its lines [keV], and their energies [keV]. Lines on the
#: Compton edge of 40K (1243 keV) are left out: no smooth continuum gives their areas.
WINDOWS = [
    ("osiris_1400_1560", 1401, 1425, 1.1, [1408]),
    ("osiris_1400_1560", 1440, 1482, 1.1, [1460.8]),
    ("osiris_1400_1560", 1487, 1524, 1.1, [1495.8, 1501.8, 1509.2]),
    ("osiris_1400_1560", 1527, 1552, 1.1, [1538.5, 1543.4]),
    ("cave_bg_1360_1400", 1360, 1400, 0.8, [1377.7]),
    ("cave_bg_1700_1900", 1710, 1785, 0.8, [1729.6, 1764.5]),
    ("cave_bg_1700_1900", 1820, 1875, 0.8, [1847.4]),
    ("cave_bg_570_600", 570, 600, 0.55, [583.2]),
    ("kelp_1050_1260", 1105, 1135, 0.8, [1120.3]),
    ("kelp_1050_1260", 1160, 1190, 0.8, [1173.2]),
    ("kelp_1280_1380", 1312, 1353, 0.8, [1332.5]),
    ("kelp_1280_1380", 1360, 1380, 0.8, [1377.7]),
    ("kelp_1400_1560", 1400, 1430, 0.8, [1408]),
    ("kelp_1400_1560", 1440, 1482, 0.8, [1460.8]),
    ("kelp_1400_1560", 1490, 1530, 0.8, [1509.2]),
    ("kelp_1700_1860", 1710, 1785, 0.85, [1729.6, 1764.5]),
    ("kelp_1700_1860", 1820, 1860, 0.85, [1847.4]),
    ("problem1_bg_540_680", 574, 595, 0.62, [583.2]),
    ("problem1_bg_540_680", 590, 630, 0.62, [609.3]),
    ("problem1_bg_540_680", 650, 679, 0.62, [661.7, 665.4]),
    ("trinitite_540_680", 574, 595, 0.75, [583.2]),
    ("trinitite_540_680", 597, 613, 0.75, [609.3]),
    ("trinitite_540_680", 640, 680, 0.75, [661.7]),
    ("aegis_eu152_1700_1900", 1710, 1785, 0.9, [1729.6, 1764.5]),
    ("aegis_eu152_1700_1900", 1820, 1875, 0.9, [1838.4, 1847.4]),
    ("osiris_2570_2660", 2594, 2636, 1.6, [2598.9, 2614.5]),
]  # fmt: skip

#: Areas by others, with their errors.
PUBLISHED = {("problem1_bg_540_680", 609.3): (36734, 190), ("kelp_1280_1380", 1332.5): (2324, 76)}

MODELS = {
    "Gaussian": {},
    "`tail`": {"tail": True},
    "`tail`, `step`": {"tail": True, "step": True},
    "`tail`, `step`, `powerlaw_polynomial`": {
        "tail": True, "step": True, "continuum": "powerlaw_polynomial",
    },
}  # fmt: skip

#: Windows around a strong line with a step below it, and all its lines.
STEPS = [
    ("osiris, 1461 keV", "osiris_1400_1560", 1440, 1481, 1.2, [1460.8]),
    ("osiris, 2615 keV", "osiris_2570_2660", 2594, 2636, 1.7, [2598.9, 2614.5]),
    ("trinitite, 662 keV", "trinitite_540_680", 640, 680, 0.75, [661.7]),
    ("problem1_bg, 609 keV", "problem1_bg_540_680", 590, 630, 0.6, [609.3]),
    ("kelp, 1461 keV", "kelp_1400_1560", 1440, 1481, 0.8, [1460.8]),
]  # fmt: skip


def shape_counts(edges, mu, sigma, fraction, ratio, step):
    """Counts per bin of a line of one count: Gaussian, tail of `ratio` widths, step."""
    z = (edges - mu) / sigma
    tail = ndtr(z) + np.exp(z / ratio + 0.5 / ratio**2 + log_ndtr(-z - 1.0 / ratio))
    below_step = edges - sigma * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
    return np.diff((1 - fraction) * ndtr(z) + fraction * tail + step * below_step)


def reference(spectrum, sigma, energies, held=None):
    """Areas of the lines, their errors, and (fraction, ratio, step), by scipy alone.

    With `held` these three are not fitted.
    """
    edges, counts = spectrum.edges, spectrum.counts
    u = 2.0 * (spectrum.centers - edges[0]) / (edges[-1] - edges[0]) - 1.0
    n = len(energies)
    level = max(np.median(counts), 0.05)
    size = max(counts.sum() - level * counts.size, 10.0) / n

    def expected(x):
        c, shape, lines = x[:3], x[3:7], x[7:].reshape(n, 2)
        mu = level * (c[0] + c[1] * u + c[2] * (u * u - 1 / 3))
        for energy, (shift, area) in zip(energies, lines, strict=True):
            mu = mu + size * area * shape_counts(edges, energy + shift, *shape)
        return np.maximum(mu, 1e-9)

    def roots(x):
        mu = expected(x)
        deviance = mu - counts + counts * np.log(np.maximum(counts, 1e-300) / mu)
        return np.sign(mu - counts) * np.sqrt(2.0 * np.maximum(deviance, 0.0))

    low = [0.0, -5, -5, 0.4 * sigma, 0.0, 0.4, 0.0] + [-1.5, 0.0] * n
    high = [10, 5, 5, 2.5 * sigma, 1.0, 6.0, 0.02] + [1.5, 50.0] * n
    fits, scale = [], np.array([1, 1, 1, sigma, 0.1, 1, 1e-3] + [sigma, 1.0] * n)
    free = np.ones(scale.size, bool)
    if held is not None:
        free[4:7] = False
    for ratio in (0.7, 1.5, 4.0):
        start = np.array([1, 0, 0, sigma, 0.1, ratio, 1e-3] + [0.0, 1.0 / n] * n)
        if held is not None:
            start[4:7] = held

        def of_free(x, whole=start):
            whole = whole.copy()
            whole[free] = x
            return roots(whole)

        limits = (np.array(low)[free], np.array(high)[free])
        fit = least_squares(of_free, start[free], bounds=limits, x_scale=scale[free])
        whole = start.copy()
        whole[free] = fit.x
        fits.append((fit.cost, whole, fit.jac))
        if held is not None:
            break
    _, best, jac = min(fits, key=lambda fit: fit[0])
    root = np.sqrt(np.maximum(np.sum(jac**2, axis=0), 1e-300))
    covariance = np.linalg.pinv((jac / root).T @ (jac / root))
    error = np.zeros(best.size)
    error[free] = np.sqrt(np.maximum(np.diag(covariance), 0.0)) / root
    return size * best[8::2], size * error[8::2], best[4:7]


def references(folder):
    """Areas and errors of the lines of each window; where little is seen of tail and step, those
    of the best window of the same spectrum's detector."""
    spectra = [real_spectrum(folder, *window[:3]) for window in WINDOWS]
    free = [reference(s, *window[3:]) for s, window in zip(spectra, WINDOWS, strict=True)]
    relative = [float(np.max(errors / area)) for area, errors, _ in free]
    detector = [window[0].split("_")[0] for window in WINDOWS]
    out = []
    for i, (spectrum, window) in enumerate(zip(spectra, WINDOWS, strict=True)):
        own = [k for k in range(len(WINDOWS)) if detector[k] == detector[i]]
        best = min(own, key=lambda k: relative[k])
        area, errors, _ = free[i]
        if relative[i] > 0.05 and best != i:
            area, errors, _ = reference(spectrum, *window[3:], held=free[best][2])
        out.append((spectrum, area, errors))
    return out


def fitted(spectrum, sigma, energies, **options):
    pivot = float(spectrum.edges.mean())
    parts = spectrum_parts(energies, sigma=sigma, pivot=pivot, **options)
    return fit_spectrum(numerical_model(parts), spectrum)


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


def areas(folder):
    """Rows of the first table, and areas by line."""
    truth, found = [], {name: [] for name in MODELS}
    flagged = {name: 0 for name in MODELS}
    own_errors, adequate = {name: [] for name in MODELS}, {name: [] for name in MODELS}
    for window, (spectrum, right, errors) in zip(WINDOWS, references(folder), strict=True):
        name, _, _, sigma, energies = window
        for energy, area, error in zip(energies, right, errors, strict=True):
            truth.append((name, energy, area, error))
            if (name, energy) in PUBLISHED:
                value, own = PUBLISHED[name, energy]
                assert abs(area - value) < 2.0 * np.hypot(own, 0.3 * error), (name, area, value)
        for model, options in MODELS.items():
            fit = fitted(spectrum, sigma, energies, **options)
            flagged[model] += len(energies) * bool(fit.adequacy.long_tails)
            names = [f"F_{2 + i}" for i in range(len(energies))]
            found[model] += [fit.values[name] for name in names]
            own_errors[model] += [fit.errors.get(name, np.inf) for name in names]
            adequate[model] += [fit.adequacy.is_adequate()] * len(names)
    rows = []
    right, known = np.array([row[2:] for row in truth]).T
    print(f"rms of the reference's own errors: {rms(100.0 * known / right):.1f} %")
    for model, values in found.items():
        off, good = 100.0 * (np.array(values) / right - 1.0), np.array(adequate[model])
        pulls = (np.array(values) - right) / np.hypot(known, own_errors[model])
        worst = truth[int(np.argmax(np.abs(off)))]
        rows.append(
            f"| {model} | {np.median(off):+.1f} | {rms(off):.1f} | "
            f"{off[np.argmax(np.abs(off))]:+.0f} ({worst[0].split('_')[0]}, {worst[1]:.0f} keV) | "
            f"{flagged[model]} | {rms(off[good]):.1f} ({good.sum()}) | {rms(pulls[good]):.1f} |"
        )
    return rows, truth, found


def steps(folder):
    for name, file, low, high, sigma, energies in STEPS:
        spectrum = real_spectrum(folder, file, low, high)
        fits = [
            fitted(spectrum, sigma, energies, tail=True, step=step, continuum="powerlaw_polynomial")
            for step in (False, True)
        ]
        without, with_step = (f"{f.deviance / f.dof:.2f}" for f in fits)
        areas = [f"{f.values[x]:.0f} ± {f.errors[x]:.0f}" for f in fits
                 for x in (f"F_{len(energies) + 1}",)]  # fmt: skip
        height = next(v for k, v in fits[1].values.items() if k.startswith("step"))
        yield (f"| {name} | {without} | {with_step} | {height:.1e} | {areas[0]} | {areas[1]} |")


def main() -> None:
    folder = published_data()
    rows, truth, found = areas(folder)
    for i, (name, energy, area, error) in enumerate(truth):
        print(f"{name:24s} {energy:8.1f} {area:10.1f} ± {error:7.1f} ",
              "  ".join(f"{100 * (v[i] / area - 1):+7.1f} %" for v in found.values()))  # fmt: skip
    tables = {
        "real_areas": [
            "| model | median bias [%] | rms [%] | largest [%] | called inadequate for its tail | "
            "rms of adequate fits [%] (lines) | and in both errors |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ],
        "real_steps": [
            "| window | deviance/dof, `tail` | `tail` and `step` | step [1/keV] | area, `tail` | "
            "area, `tail` and `step` |",
            "|---|---|---|---|---|---|",
            *steps(folder),
        ],
    }
    for name, table in tables.items():
        publish(name, "\n".join(table), "spectrum.md")


if __name__ == "__main__":
    main()
