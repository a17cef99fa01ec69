"""PsiChi that is no whole sphere: a plain axis of older files, or some of the pixels of one."""

import histpy
import numpy as np
import pytest
from numpy.testing import assert_allclose

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.config import load_config
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.pipeline import run
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundError, TemplateError
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram
from cosi_linebkg_plugin.show.maps import plot_maps
from cosi_linebkg_plugin.template.filters import Filter, apply_filter

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015}
SKY = {"nside": 2, "scheme": "ring", "coordsys": "galactic", "label": "PsiChi"}
SMALL = {
    "plain": (histpy.Axis(np.arange(49), label="PsiChi"), slice(0, 48)),
    "plain, no number of pixels": (histpy.Axis(np.arange(41), label="PsiChi"), slice(0, 40)),
    "12 pixels": (histpy.HealpixAxis(edges=np.arange(13), **SKY), slice(0, 12)),
    "20 other pixels": (histpy.HealpixAxis(edges=np.arange(25, 46), **SKY), slice(25, 45)),
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


class Cut:
    """One simulated data set, with other pixels."""

    def __init__(self, name):
        self.axis, pixels = SMALL[name]
        simulation = simulate(3, nside=2)
        events = simulated_events(simulation)
        contents = np.asarray(events.to_dense().contents)[..., pixels]
        self.events = make_histogram([*list(events.axes)[:-1], self.axis], contents)
        self.plugin = LineBackgroundLike("bkg", self.events)
        self.plugin.set_mask((1790, 1825))
        self.fit = self.plugin.fit(background_model(resolved_lines(), pivot=1800))
        in_range = [source_axis(events.axes[0], *SOURCE_RANGE), *list(self.events.axes)[1:]]
        observed = simulation.observed(*SOURCE_RANGE)[None][..., pixels]
        self.observed = make_histogram(in_range, observed)

    def template(self, **options):
        return self.plugin.background_template(self.fit, SOURCE_RANGE, line_ratio=RATIO, **options)


@pytest.fixture(scope="module", params=SMALL)
def cut(request):
    return Cut(request.param)


def test_what_needs_no_sphere_works(cut):
    plain, pooled = cut.template(), cut.template(rebin_phi=10)
    assert plain.record.pooled_slices == 0
    for template in (plain, pooled):
        contents = np.asarray(template.histogram.contents)
        assert contents.shape[-1] == cut.axis.nbins and (contents > 0).all()
    assert_allclose(pooled.project("Phi")[0], plain.project("Phi")[0], rtol=1e-10)
    pattern = np.asarray(pooled.components["continuum"].contents)[0]
    pattern = pattern / pattern.sum(axis=1, keepdims=True)
    assert_allclose(pattern[:10], np.tile(pattern[0], (10, 1)), rtol=1e-10)


@pytest.mark.parametrize("options", [{"smoothing_fwhm": 20.0}, {"l_cut": 4}])
def test_smoothing_alone_is_refused(cut, options):
    with pytest.raises(TemplateError, match=r"whole sphere, .* (plain axis of|pixels of nside 2)"):
        cut.template(**options)


def test_a_filter_is_chosen_among_those_without_smoothing(cut):
    template = cut.template(smoothing="auto")
    names = [score.filter for score in template.record.filter_scores]
    assert names == ["no filter"] + [f"one pattern per {n} Phi bins" for n in (5, 10, 20, 60)]


def test_comparison_leaves_out_what_needs_the_sphere(cut):
    template = cut.template()
    row = template.compare(cut.observed)
    assert list(row.projections) == ["Phi"]
    assert row.projections["Phi"].observed.sum() == pytest.approx(row.observed)
    with pytest.raises(TemplateError, match="Maps need the whole sphere"):
        plot_maps(template, observed=cut.observed)
    template.fit_norms(cut.observed, constrain=True)


def test_a_run_ends_without_the_maps(cut, tmp_path):
    write_histogram(tmp_path / "events.hdf5", cut.events)
    write_histogram(tmp_path / "observed.hdf5", cut.observed)
    lines = ", ".join(f"{energy:g}" for energy in resolved_lines())
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""\
events: events.hdf5
source_range: [{SOURCE_RANGE[0]:g}, {SOURCE_RANGE[1]:g}]
mask: [[1790, 1825]]
model: {{pivot: 1800, lines: [{lines}]}}
template: {{observed: observed.hdf5}}
"""
    )
    names = {path.name for path in run(load_config(config), tmp_path / "out").files}
    assert {"template.h5", "background.hdf5", "phi.png", "report.html"} <= names
    assert "maps.png" not in names
    config.write_text(config.read_text().replace("observed:", "l_cut: 4, observed:"))
    with pytest.raises(LineBackgroundError, match="smoothing_fwhm= and l_cut= need"):
        run(load_config(config), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_the_filter_itself_knows():
    maps = np.ones((1, 2, 48))
    with pytest.raises(TemplateError, match="needs maps of the whole sphere"):
        apply_filter(maps, maps, Filter(l_cut=2), sphere=False)
    holes = np.zeros((1, 2, 40))
    holes[0, :, :3] = 5.0
    filled = apply_filter(holes, holes, Filter(), sphere=False).maps
    assert (filled > 0).all() and np.ptp(filled[0, :, 3:]) < 1e-12
    assert_allclose(filled.sum(axis=2), holes.sum(axis=2))
