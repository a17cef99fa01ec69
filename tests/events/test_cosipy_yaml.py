"""cosipy's own YAML configuration."""

import pytest
import yaml
from event_lists import START

from cosi_linebkg_plugin.errors import ConfigError
from cosi_linebkg_plugin.events.cosipy_yaml import is_cosipy_config, read_cosipy_config

SETTINGS = {
    "data_file": "events.fits.gz", "ori_file": "o.fits", "unbinned_output": "fits",
    "time_bins": 10, "energy_bins": [100.0, 200], "phi_pix_size": 6, "nside": 8, "scheme": "RING",
    "tmin": START, "tmax": START + 100,
}  # fmt: skip


def read(folder, **changed):
    path = folder / "inputs.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changed))
    return read_cosipy_config(path)


def test_its_keys_become_options(tmp_path):
    (tmp_path / "o.fits").write_bytes(b"")
    found = read(tmp_path)
    assert found.data_file == tmp_path / "events.fits.gz"
    assert found.options == {
        "energy_edges": [100, 200], "phi_pix_size": 6, "nside": 8, "scheme": "RING",
        "time_bins": 10, "tmin": START, "tmax": START + 100, "orientation": tmp_path / "o.fits",
    }  # fmt: skip
    assert isinstance(found.options["nside"], int) and found.notes == ()
    edges = [START, START + 50, START + 100]
    assert "tmin" not in read(tmp_path, time_bins=edges).options  # edges say it


@pytest.mark.parametrize("name", ["x.tra", "x.tra.gz", "a.b.tra.gz"])
def test_simulated_events_are_no_event_list(tmp_path, name):
    assert read(tmp_path, data_file=name).data_file is None


def test_an_orientation_file_that_does_not_exist_is_said(tmp_path):
    found = read(tmp_path, ori_file="/path/to/ori")
    assert "orientation" not in found.options
    assert found.notes == (
        "ori_file /path/to/ori does not exist, so that the histogram has no livetime",
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(tmax=None), "tmax: this key is required"),
        (dict(phi_pix_size="six"), "phi_pix_size: got 'six'; a number is needed"),
        (dict(energy_bins=[1, "x"]), "energy_bins: got 'x'"),
        (dict(time_bins=[START + 1, START + 100]), "time_bins: these edges do not cover"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changed, message):
    with pytest.raises(ConfigError, match=rf"inputs\.yaml: {message}"):
        read(tmp_path, **changed)


def test_other_configurations_are_told_apart(tmp_path):
    assert is_cosipy_config(SETTINGS)
    assert not is_cosipy_config({"events": "a.hdf5"}) and not is_cosipy_config([1])
    path = tmp_path / "a.yaml"
    path.write_text("events: a.hdf5\n")
    with pytest.raises(ConfigError, match="no configuration of cosipy"):
        read_cosipy_config(path)
