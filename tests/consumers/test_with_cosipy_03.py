"""The real cosipy 0.3 on its own test files: likelihood, fits, TS map, image deconvolution."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from templates import histogram_of, template_of, tilted, with_energy_bins

from cosi_linebkg_plugin.consumers.constraint import NormConstraint
from cosi_linebkg_plugin.consumers.cosilike import ComponentMix, cosilike
from cosi_linebkg_plugin.consumers.imaging import deconvolution_input

cosipy = pytest.importorskip("cosipy")

COMPTON = ["Em", "Phi", "PsiChi"]
ALL_ENERGIES = (150.0, 5000.0)
BKG_COUNTS = 674.2297734183134  # of test_spectral_fit_background.h5


@pytest.fixture(scope="module")
def files(shared_data):
    folder = shared_data / "cosipy"
    if not folder.is_dir():
        pytest.skip(f"no test files of cosipy in {folder}")
    return folder


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """cosipy writes scratch files into the current folder."""
    monkeypatch.chdir(tmp_path)


def opened(path):
    from histpy import Histogram

    return Histogram.open(path).project(COMPTON)


@pytest.fixture
def data(files):
    return opened(files / "test_spectral_fit_data.h5")


@pytest.fixture
def published(files):
    return opened(files / "test_spectral_fit_background.h5")


@pytest.fixture
def orientation(files):
    return cosipy.SpacecraftFile.parse_from_file(files / "20280301_2s.ori")


def dense(histogram):
    contents = histogram.contents
    return np.asarray(contents.todense() if hasattr(contents, "todense") else contents)


def filled(histogram, share=1e-3):
    """Counts with nothing empty: a share of them is spread evenly; the total is kept."""
    counts = dense(histogram)
    return (1 - share) * counts + share * counts.sum() / counts.size


def sky(norm=1.0):
    """cosipy's own test source where it has it, with a free norm."""
    from astromodels import Band, Model, PointSource

    spectrum = Band(K=norm, alpha=-1.0, beta=-2.0, xp=500.0, piv=500.0)
    spectrum.K.bounds = (1e-4, 1e2)
    for p in (spectrum.alpha, spectrum.beta, spectrum.xp):
        p.free = False
    source = PointSource("source", l=50.0, b=-45.0, spectral_shape=spectrum)
    return Model(source), spectrum.K


def background_of(counts, some_axes, **options):
    return template_of({"background": counts}, some_axes, source_range=ALL_ENERGIES, **options)


class Analysis:
    """COSILike on the test files."""

    def __init__(self, files, data, orientation):
        self.files, self.data, self.orientation = files, data, orientation

    def cosilike(self, bkg, nuisance_param=None):
        return cosipy.COSILike(
            "cosi",
            dr=str(self.files / "test_full_detector_response_dense.h5"),
            data=self.data,
            bkg=bkg,
            sc_orientation=self.orientation,
            nuisance_param=nuisance_param,
        )

    def session(self, *plugins):
        from threeML import DataList, JointLikelihood

        return JointLikelihood(sky()[0], DataList(*plugins))


@pytest.fixture
def analysis(files, data, orientation, in_tmp):
    return Analysis(files, data, orientation)


def plain_norm():
    from astromodels import Parameter

    return Parameter("cosi_bkg", 1.0, min_value=0.0, max_value=10.0, delta=0.05)


def test_the_same_counts_give_the_same_likelihood(analysis, data, published):
    """Where the published file has counts; its empty cells get a number far below 1e-12."""
    counts = dense(published)
    same = np.where(counts > 0, counts, 1e-40)
    given = cosilike(background_of(same, published.axes), data=data)
    plugins = analysis.cosilike(**given), analysis.cosilike(published, plain_norm())
    for plugin in plugins:
        plugin.set_model(sky()[0])
        plugin._printed_warning = True
    for norm in (1.0, 0.3, 1.7):
        for plugin in plugins:
            plugin.nuisance_parameters["cosi_bkg"].value = norm
        got, expected = (plugin.get_log_like() for plugin in plugins)
        assert got == pytest.approx(expected, rel=1e-10)


def test_a_fit_with_the_template_finds_what_the_published_background_finds(
    analysis, data, published
):
    template = background_of(filled(published), published.axes)
    ours = analysis.session(analysis.cosilike(**cosilike(template, data=data)))
    theirs = analysis.session(analysis.cosilike(published, plain_norm()))
    (table, _), (reference, _) = ours.fit(quiet=True), theirs.fit(quiet=True)
    assert list(table.index) == list(reference.index)
    # the fill moves the optimum by less than a fifth of the errors
    shift = np.abs(table["value"] - reference["value"]) / reference["error"]
    assert (shift < 0.2).all()
    assert_allclose(table["error"], reference["error"], rtol=0.1)


def test_the_constraint_makes_the_norm_known(analysis, data, published):
    template = background_of(
        filled(published), published.axes, covariance=np.array([[(0.01 * BKG_COUNTS) ** 2]])
    )
    free = analysis.session(analysis.cosilike(**cosilike(template, data=data)))
    known = analysis.session(
        analysis.cosilike(**cosilike(template, data=data)), NormConstraint.of_template(template)
    )
    (loose, _), (tight, _) = free.fit(quiet=True), known.fit(quiet=True)
    assert loose.loc["cosi_bkg", "error"] > 0.05
    assert tight.loc["cosi_bkg", "error"] == pytest.approx(0.01, rel=0.05)
    assert abs(tight.loc["cosi_bkg", "value"] - 1.0) < 0.05
    assert tight.iloc[0]["error"] < loose.iloc[0]["error"]


def test_several_components_through_the_unchanged_cosilike(analysis, data, published):
    """Low and high energies with a norm each: as two fits' worth of freedom in one COSILike."""
    counts = filled(published)
    low = counts.copy()
    low[4:] *= 1e-3
    mix = ComponentMix(
        template_of(
            {"continuum": low, "lines": counts - 0.999 * low},
            published.axes,
            source_range=ALL_ENERGIES,
            covariance=np.diag([(0.05 * low.sum()) ** 2, np.inf]),
        ),
        data=data,
    )
    session = analysis.session(analysis.cosilike(mix), mix.constraint())
    table, _ = session.fit(quiet=True)
    assert list(table.index[1:]) == ["norms_continuum", "norms_lines"]
    assert table.loc["norms_continuum", "error"] < 0.06
    assert np.isfinite(table["error"]).all() and (table["value"] > 0).all()
    # the optimum is one: moving either norm by its error costs about half a unit
    best = session.current_minimum
    for name in ("norms_continuum", "norms_lines"):
        parameter = mix.parameters[name]
        session.restore_best_fit()
        parameter.value += table.loc[name, "error"]
        moved = -sum(plugin.get_log_like() for plugin in session.data_list.values())
        assert moved - best > 0.3


def test_the_amplitude_of_what_lines_may_differ_by(analysis, data, published):
    """The likelihood of lines changed by hand, and a fit that frees the amplitude."""
    counts = filled(published)
    maps, record = {"continuum": 0.6 * counts, "lines": 0.4 * counts}, tilted(counts.shape[1])
    template = template_of(maps, published.axes, source_range=ALL_ENERGIES, record=record)
    mix = template.component_mix(data=data)
    mix.parameters["norms_lines_spread_1"].value = -1.2
    (difference,) = record.line_spread.differences(counts, COMPTON)
    changed = maps["continuum"] + maps["lines"] * (1 - 1.2 * difference)
    by_hand = cosilike(background_of(changed, published.axes), data=data)
    plugins = [analysis.cosilike(mix), analysis.cosilike(**by_hand)]
    for plugin in plugins:
        plugin.set_model(sky()[0])
        plugin._printed_warning = True
    got, expected = (plugin.get_log_like() for plugin in plugins)
    assert got == pytest.approx(expected, rel=1e-10)
    table, _ = analysis.session(plugins[0], mix.constraint()).fit(quiet=True)
    assert list(table.index[1:]) == ["norms_continuum", "norms_lines", "norms_lines_spread_1"]
    assert 0.1 < table.loc["norms_lines_spread_1", "error"] < 1.05


def test_each_energy_bin_with_a_norm_of_its_own(analysis, data, published):
    """Norms of bins in an unchanged COSILike: the likelihood of bins scaled by hand, and a fit."""
    counts = filled(published)
    template = with_energy_bins(background_of(counts, published.axes)).split("Em")
    n_bins = counts.shape[0]
    mix = template.component_mix(data=data)
    plugins = [analysis.cosilike(mix)]
    factors = np.random.default_rng(1).uniform(0.5, 1.5, n_bins)
    for b, factor in enumerate(factors):
        mix.parameters[f"norms_background_em_{b}"].value = factor
    by_hand = cosilike(background_of(counts * factors[:, None, None], published.axes), data=data)
    plugins.append(analysis.cosilike(**by_hand))
    for plugin in plugins:
        plugin.set_model(sky()[0])
        plugin._printed_warning = True
    got, expected = (plugin.get_log_like() for plugin in plugins)
    assert got == pytest.approx(expected, rel=1e-10)
    table, _ = analysis.session(plugins[0], mix.constraint()).fit(quiet=True)
    # some 10 % known, and a little more with the data; threeML's errors are good to some percent
    errors = table["error"].to_numpy()[1:]
    assert errors.size == n_bins
    assert errors.mean() < 0.1 and (errors < 0.11).all() and (errors > 0.03).all()


def test_a_bayesian_session_uses_the_prior(analysis, data, published):
    """Beside a session with the published file, given the same prior by hand."""
    from astromodels import Truncated_gaussian, Uniform_prior
    from threeML import BayesianAnalysis, DataList

    template = background_of(
        filled(published), published.axes, covariance=np.array([[(0.02 * BKG_COUNTS) ** 2]])
    )
    by_hand = plain_norm()
    by_hand.prior = Truncated_gaussian(mu=1.0, sigma=0.02, lower_bound=0.0, upper_bound=10.0)
    plugins = (
        analysis.cosilike(**cosilike(template, data=data)),
        analysis.cosilike(published, by_hand),
    )
    samples = []
    for plugin in plugins:
        plugin._printed_warning = True
        model, norm = sky(norm=1.0)
        norm.prior = Uniform_prior(lower_bound=0.1, upper_bound=10.0, value=0.1)
        session = BayesianAnalysis(model, DataList(plugin))
        session.set_sampler("emcee")
        session.sampler.setup(n_iterations=80, n_burn_in=40, n_walkers=12, seed=1)
        session.sample(quiet=True)
        samples.append(np.array(list(session.samples.values())))
    ours, theirs = samples
    # 960 correlated samples; the data alone know the norm to some 10 %
    assert np.std(ours[1]) == pytest.approx(0.02, rel=0.4)
    assert np.mean(ours[1]) == pytest.approx(1.0, abs=0.05)
    assert np.all(np.abs(ours.mean(axis=1) - theirs.mean(axis=1)) < 0.5 * theirs.std(axis=1))
    assert_allclose(ours.std(axis=1), theirs.std(axis=1), rtol=0.4)


def test_a_ts_map(files, data, published, orientation, in_tmp):
    """The source range is two of ten energy bins; the template holds nothing in the others."""
    counts = filled(published)
    counts[[i for i in range(10) if i not in (3, 4)]] = 0.0
    edges = published.axes["Em"].edges.to_value(u.keV)
    template = template_of(
        {"background": counts}, published.axes, source_range=(edges[3], edges[5])
    )
    channel = template.energy_channel(data)
    assert channel == [3, 5]
    model, _ = sky()
    spectrum = model.sources["source"].spectrum.main.shape
    response = str(files / "test_full_detector_response_dense.h5")
    tables = []
    for given in (template.ts_map_input(data), {"data": data, "bkg_model": published}):
        ts = cosipy.FastTSMap(
            **given, response_path=response, orientation=orientation, cds_frame="local"
        )
        cells = ts.get_cds_array(ts._data, channel), ts.get_cds_array(ts._bkg_model, channel)
        tables.append(
            [
                ts.fast_ts_fit(
                    c, channel, *cells, orientation, response, spectrum, "local", 1, "RING"
                )[:3]
                for c in ts.get_hypothesis_coords(nside=1)[:4]
            ]
        )
    ours, theirs = np.array(tables, float)
    assert np.isfinite(ours).all() and (ours[:, 1:] > 0).all()
    assert_allclose(ours, theirs, rtol=5e-3)  # what the fill of the empty cells does


def test_an_image_deconvolution(files, tmp_path, in_tmp):
    from cosipy.image_deconvolution import (
        CoordsysConversionMatrix,
        DataIF_COSI_DC2,
        ImageDeconvolution,
    )
    from cosipy.response import FullDetectorResponse
    from histpy import Histogram

    events = Histogram.open(files / "test_event_histogram_localCDS.hdf5")
    counts = 0.1 * filled(events, share=0.1)
    order = ["PsiChi", "Phi", "Time", "Em"]  # the template's own order does not matter
    labels = [a.label for a in events.axes]
    own = type(events.axes)([events.axes[label] for label in order])
    template = background_of(counts.transpose([labels.index(label) for label in order]), own)

    response = FullDetectorResponse.open(files / "test_full_detector_response_dense.h5")
    orientation = cosipy.SpacecraftFile.parse_from_file(files / "20280301_first_10sec.ori")
    ccm = CoordsysConversionMatrix.time_binning_ccm(
        response, orientation, events.axes["Time"].edges
    )
    given = deconvolution_input(template, events)
    loaded = DataIF_COSI_DC2.load("test", events, given, response, ccm)
    assert_allclose(dense(loaded.bkg_model("bkg")), counts, rtol=1e-12)

    energies = response.axes["Ei"].edges.to_value(u.keV).tolist()
    parameters = tmp_path / "deconvolution.yml"
    parameters.write_text(
        f"""
model_definition:
  class: "AllSkyImage"
  property:
    coordinate: "galactic"
    nside: 1
    scheme: "ring"
    energy_edges: {{value: {energies}, unit: "keV"}}
    unit: "cm-2 s-1 sr-1"
  initialization:
    algorithm: "flat"
    parameter: {{value: {[1e-2] * 10}, unit: "cm-2 s-1 sr-1"}}
deconvolution:
  algorithm: "RLsimple"
  parameter:
    iteration_max: 5
    minimum_flux: {{value: 0.0, unit: "cm-2 s-1 sr-1"}}
    background_normalization_optimization: True
"""
    )
    imaging = ImageDeconvolution()
    imaging.set_dataset([loaded])
    imaging.read_parameterfile(parameters)
    imaging.initialize()
    imaging.run_deconvolution()
    norms = [result["background_normalization"]["bkg"] for result in imaging.results]
    assert len(norms) == 5 and np.isfinite(norms).all() and min(norms) > 0
    # expectation maximisation: the likelihood rises from step to step
    likelihoods = [
        loaded.calc_loglikelihood(
            loaded.calc_expectation(result["model"], result["background_normalization"])
        )
        for result in imaging.results
    ]
    assert np.all(np.diff(likelihoods) > 0)
    # the template's object is untouched by what the loader did to its own dict
    assert [a.label for a in template.axes] == order


def test_a_joint_session_with_the_energy_spectrum(analysis, data, published):
    """COSILike leaves the ParticleSource of the background spectrum alone."""
    from threeML import DataList, JointLikelihood

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    edges = np.linspace(1700.0, 1900.0, 41)
    counts = np.random.default_rng(1).poisson(400.0, 40)
    linebkg = LineBackgroundLike("linebkg", (edges, counts))
    alone = linebkg.fit(background_model(pivot=1800))
    spectrum = background_model(pivot=1800).sources["linebkg"]
    template = background_of(filled(published), published.axes)
    cosi = analysis.cosilike(**cosilike(template, data=data))
    model = sky()[0]
    model.add_source(spectrum)
    session = JointLikelihood(model, DataList(linebkg, cosi, NormConstraint.of_template(template)))
    session.fit(quiet=True)
    joint = linebkg.result(session)
    reference, errors = alone.values, alone.errors
    for name, error in errors.items():
        assert joint.values[name] == pytest.approx(reference[name], abs=0.05 * error)


def test_mismatches_that_cosilike_would_not_see(data, published):
    """A template of one energy bin broadcasts silently against data of ten; here it does not."""
    from histpy import Axes

    one = published.slice[4:5, :, :]
    axes = Axes([one.axes["Em"], published.axes["Phi"], published.axes["PsiChi"]])
    counts = filled(histogram_of(axes, dense(published)[4:5]))
    template = template_of({"background": counts}, axes, source_range=(520.0, 765.0))
    with pytest.raises(Exception, match="Em: got number of bins 1, expected 10"):
        cosilike(template, data=data)
    assert (dense(data) + counts).shape == dense(data).shape  # numpy's broadcasting


def test_cosilike_leaves_out_what_is_dropped(analysis, data, published):
    """A template of one of ten energy bins: the likelihood is that of this bin alone."""
    counts = filled(published)
    counts[np.arange(10) != 4] = 0.0
    template = template_of({"background": counts}, published.axes, source_range=(520.0, 765.0))
    plugin = analysis.cosilike(**cosilike(template, data=data, outside="drop"))
    plugin.set_model(sky()[0])
    plugin._printed_warning = True
    expectation = plugin._signal[4] + counts[4] + 1e-12
    expected = np.sum(dense(data)[4] * np.log(expectation) - expectation)
    assert plugin.get_log_like() == pytest.approx(expected, rel=1e-12)
