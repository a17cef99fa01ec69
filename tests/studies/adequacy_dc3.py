"""Line shapes and continua on the real DC3 spectrum around 26Al, as the table in docs/spectrum.md.

``PYTHONPATH=tests/helpers python tests/studies/adequacy_dc3.py [--write]`` with the published
spectrum in COSI_LINEBKG_DATA (see tests/conftest.py); ``--write`` puts the table into the page.
Seconds.
"""

from __future__ import annotations

from spectra import dc3_spectrum, tutorial_model
from study import publish, published_data

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.read import spectrum_of

SOURCE = (1805.0, 1812.0)
LINES = [1506, 1515, 1526, 1538, 1565, 1612, 1633, 1650, 1666, 1723, 1764, 1779, 1882, 1893, 1904,
         1920, 1928]  # fmt: skip
MODELS = {
    "the tutorial's 6 lines": None,
    "17 lines": {},
    "17 lines, `tail`": {"tail": True},
    "17 lines, `tail`, `width: linear`": {"tail": True, "width": "linear"},
    "17 lines, `tail`, `broken_powerlaw`": {"tail": True, "continuum": "broken_powerlaw"},
    "17 lines, `tail`, `powerlaw_polynomial`": {"tail": True, "continuum": "powerlaw_polynomial"},
}


def rows(spectrum):
    for name, options in MODELS.items():
        model = tutorial_model()
        if options is not None:
            model = spectrum_of(
                background_model(LINES, pivot=1800, **options), "linebkg"
            ).current_model()
        fit = fit_spectrum(model, spectrum)
        a, counts = fit.adequacy, fit.expected_counts(SOURCE)
        low, high = (100 * x for x in a.systematic_range)
        poisson = (counts.covariance - _systematic_part(fit)).sum() ** 0.5
        added = (counts.total_error**2 - poisson**2) ** 0.5
        yield (
            f"| {name} | {fit.deviance / fit.dof:.1f} | {100 * fit.systematic:.1f} "
            f"({low:.1f}-{high:.1f}) | {a.worst:+.1f} at {a.worst_range[0]:.0f} keV | "
            f"{counts.total:.0f} ± {poisson:.0f} ± {added:.0f} |"
        )


def _systematic_part(fit):
    from cosi_linebkg_plugin.spectrum.components import counts_in_bins, range_counts

    edges = fit.spectrum.edges
    is_line = [c.label == "lines" for c in fit.model.components]
    collect = [[float(not x) for x in is_line], [float(x) for x in is_line]]
    jac = collect @ range_counts(fit.model, fit.theta, *SOURCE, edges)[1]
    return fit.systematic_covariance(
        jac, collect @ counts_in_bins(fit.model, fit.theta, *SOURCE, edges)
    )


def main() -> None:
    table = [
        "| model | deviance / dof | systematic error [%] | largest residual [sigma] | "
        "counts in 1805-1812 keV |",
        "|---|---|---|---|---|",
        *rows(dc3_spectrum(published_data())),
    ]
    publish("adequacy_dc3", "\n".join(table), "spectrum.md")


if __name__ == "__main__":
    main()
