"""The same results whatever runs beside: OpenMP threads, processes, threads, a cold cache."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from event_lists import make_events, write_hdf5
from numpy.testing import assert_allclose
from spectra import TUTORIAL_LINES, TUTORIAL_MASK, simulated_spectrum, tutorial_model

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

TESTS = Path(__file__).resolve().parent
EDGES = np.linspace(1500.0, 2000.0, 100)
SOURCE = (1805.0, 1812.0)
#: Both go through healpy, whose OpenMP threads may add in another order.
FILTERS = {"l_cut": {"l_cut": 4}, "auto": {"smoothing": "auto"}}

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def pair(seed):
    """A start model and a spectrum to fit."""
    truth = tutorial_model(index=-2.0, sigma=2.96)
    spectrum = simulated_spectrum(truth, EDGES, np.random.default_rng(seed), [TUTORIAL_MASK])
    return tutorial_model(), spectrum


def numbers(fit):
    """All that a fit found, to compare bit by bit."""
    return np.concatenate([fit.theta, fit.covariance.ravel(), [fit.deviance]])


def templates(events, fit):
    """Templates with every kind of filter that needs spherical harmonics."""
    from cosi_linebkg_plugin.template.build import make_template
    from cosi_linebkg_plugin.template.options import TemplateOptions
    from cosi_linebkg_plugin.template.plan import plan_for_fit

    return {
        name: make_template(plan_for_fit(events, fit, SOURCE, TemplateOptions(**options)), fit)
        for name, options in FILTERS.items()
    }


def work(folder):
    """Fit, templates and binned events from files in `folder`; arrays by name."""
    from cosi_linebkg_plugin import bin_events
    from cosi_linebkg_plugin.histograms.read import open_events

    fit = fit_spectrum(*pair(1))
    events = open_events(folder / "total.hdf5")
    demo = fit_spectrum(*demo_pair(events))
    out = {"fit": numbers(fit), "demo": numbers(demo)}
    for name, template in templates(events, demo).items():
        out[name] = np.asarray(template.histogram.contents)
    binned = bin_events(
        folder / "events.hdf5", energy_edges=[200.0, 1000.0, 5000.0], phi_pix_size=30, nside=2
    )
    out["binned"] = np.asarray(binned.to_dense().contents)
    return out


def demo_pair(events):
    from spectra import line_model

    spectrum = EnergySpectrum(events.energy_edges, events.energy_counts()).with_mask(
        [TUTORIAL_MASK]
    )
    lines = [(e, 1e3, (e - 5.0, e + 5.0)) for e in (1612.0, 1634.0, 1723.0, 1764.0, 1779.0)]
    return line_model(lines), spectrum


def save(folder, name):
    np.savez(Path(folder) / name, **work(Path(folder)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from cosi_linebkg_plugin.app.demo import simulated_events
    from cosi_linebkg_plugin.app.simulation import simulate
    from cosi_linebkg_plugin.histograms.write import write_histogram

    folder = tmp_path_factory.mktemp("concurrency")
    write_histogram(folder / "total.hdf5", simulated_events(simulate(1, nside=4)))
    write_hdf5(folder / "events.hdf5", make_events(20_000, duration=1000.0))
    return folder


def start(code, **environment):
    folders = [TESTS, TESTS.parent / "helpers", os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(map(str, folders))
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process):
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
def test_openmp_threads_change_nothing(folder):
    """Fit and binned events bit by bit; maps but for the order of sums within healpy."""
    code = f"import test_concurrency; test_concurrency.save({str(folder)!r}, 'threads_%s')"
    running = [start(code % n, OMP_NUM_THREADS=str(n)) for n in (1, 2)]
    for process in running:
        finish(process)
    one, two = (np.load(folder / f"threads_{n}.npz") for n in (1, 2))
    assert set(one) == set(two) == {"fit", "demo", "binned", *FILTERS}
    for name in one:
        assert np.all(np.isfinite(one[name])) and np.any(one[name])
        if name in FILTERS:
            assert_allclose(two[name], one[name], rtol=1e-12, atol=0)
        else:
            assert np.array_equal(two[name], one[name]), name


def test_spawned_workers_fit_as_here():
    """Models, spectra and fits travel both ways; two workers at the same time."""
    pairs = [pair(seed) for seed in range(4)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        fits = list(pool.map(fit_spectrum, *zip(*pairs, strict=True)))
    for fit, (model, spectrum) in zip(fits, pairs, strict=True):
        here = fit_spectrum(model, spectrum)
        assert np.array_equal(numbers(fit), numbers(here))
        assert fit.to_dict() == here.to_dict()
        assert fit.summary() == here.summary()


def test_threads_share_models_and_spectra():
    pairs = [pair(seed) for seed in (1, 2)]
    expected = [numbers(fit_spectrum(*p)) for p in pairs]
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda i: fit_spectrum(*pairs[i % 2]), range(24)))
    for i, fit in enumerate(fits):
        assert np.array_equal(numbers(fit), expected[i % 2])


def test_templates_survive_pickling_and_threads(folder):
    """Four threads read one file and make templates of one fit."""
    from cosi_linebkg_plugin.histograms.read import open_events

    events = open_events(folder / "total.hdf5")
    fit = fit_spectrum(*demo_pair(events))
    expected = templates(events, fit)
    copies = pickle.loads(pickle.dumps(expected))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: templates(events, fit), range(4)))
    for name, template in expected.items():
        contents = np.asarray(template.histogram.contents)
        for other in (copies[name], *(m[name] for m in made)):
            assert np.array_equal(np.asarray(other.histogram.contents), contents)
            assert np.array_equal(other.covariance, template.covariance)
            assert other.counts == template.counts and other.notes == template.notes
            assert np.array_equal(numbers(other.fit), numbers(fit))


def test_threads_share_a_plugin():
    """One plugin; each thread has an astromodels model of its own, which a fit changes."""
    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    _, spectrum = pair(3)
    plugin = LineBackgroundLike("bkg", spectrum)
    models = [background_model([e for e, *_ in TUTORIAL_LINES], pivot=1800) for _ in range(9)]
    expected = numbers(plugin.fit(models.pop()))
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(plugin.fit, models))
    assert all(np.array_equal(numbers(fit), expected) for fit in fits)


def test_a_model_with_a_functional_link_travels():
    from astromodels import Line

    from cosi_linebkg_plugin import background_model
    from cosi_linebkg_plugin.model.read import spectrum_of

    model = background_model([1612, 1635], pivot=1800)
    law = Line()
    law.a.value, law.b.value, law.a.fix, law.b.fix = 23.0, 1.0, True, True
    parameters = model.linebkg.spectrum.main.shape.parameters
    model.link(parameters["mu_3"], parameters["mu_2"], law)
    linked = spectrum_of(model, "linebkg").current_model()
    copy = pickle.loads(pickle.dumps(linked))
    assert len(copy.derived) == 1
    theta = linked.values
    theta[linked.names.index("mu_2")] = 1613.0
    moved = copy.resolve(theta)
    assert moved[copy.names.index("mu_3")] == 1636.0
    assert np.array_equal(copy.bind(EDGES).counts(theta), linked.bind(EDGES).counts(theta))


@pytest.mark.slow
def test_two_processes_may_compile_at_the_same_time(tmp_path):
    """From an empty cache, which both write."""
    code = (
        "from cosi_linebkg_plugin.spectrum.lineshapes import tailed_gaussian_counts as f\n"
        "print('sum', f([1700, 1800, 1900], 1e4, 1790.3, 3.0, 0.2, 12.0)[0].sum().hex())\n"
    )
    running = [start(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    said = {finish(process).split()[-1] for process in running}
    assert len(said) == 1
    assert list(tmp_path.rglob("kernels.accumulate*.nbc"))
    assert finish(start(code, NUMBA_CACHE_DIR=str(tmp_path))).split()[-1] in said
