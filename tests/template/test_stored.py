"""Components in a template's file: covariances kept, older and damaged files."""

import h5py
import histpy
import numpy as np
import pytest
from two_components import RATIO, SOURCE, apart, plugin_of, sumw2_of

from cosi_linebkg_plugin import BackgroundTemplate, background_model
from cosi_linebkg_plugin.errors import FileError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


@pytest.fixture(scope="module")
def template():
    plugin = plugin_of(1, 1.0)
    fit = plugin.fit(background_model([1775], pivot=1800))
    return plugin.background_template(fit, SOURCE, line_ratio=RATIO)


def test_files_keep_it_and_older_ones_say_that_they_do_not(template, tmp_path):
    path = tmp_path / "t.h5"
    template.write(path)
    again = BackgroundTemplate.open(path)
    exact = sumw2_of(template.histogram)
    np.testing.assert_allclose(sumw2_of(again.histogram), exact, rtol=1e-5)
    assert again.notes == template.notes
    template.write_histogram(tmp_path / "sum.hdf5")
    plain = histpy.Histogram.open(tmp_path / "sum.hdf5")
    np.testing.assert_allclose(sumw2_of(plain), exact, rtol=1e-6)
    with h5py.File(path, "a") as file:
        del file["products"]
    old = BackgroundTemplate.open(path)
    np.testing.assert_allclose(sumw2_of(old.histogram), apart(template), rtol=1e-6)
    assert any("anticorrelated" in note for note in old.notes)


@pytest.mark.parametrize("name", ["0_7", "0", "x_y", "0_1"])
def test_damaged_covariances_are_named(template, tmp_path, name):
    path = tmp_path / "t.h5"
    template.write(path)
    with h5py.File(path, "a") as file:
        del file["products"]["0_1"]
        file["products"][name] = np.full(template.event_axes.shape, np.nan)
    with pytest.raises(FileError, match="covariances of two components"):
        BackgroundTemplate.open(path)
