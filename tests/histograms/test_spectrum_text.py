"""Spectra as text: the forms that laboratories have, and what cannot be read."""

import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table

from cosi_linebkg_plugin import LineBackgroundLike
from cosi_linebkg_plugin.errors import FileError, LineBackgroundError
from cosi_linebkg_plugin.histograms import spectrum_text
from cosi_linebkg_plugin.histograms.read import open_events

EDGES = np.linspace(1700.0, 1710.0, 21)
COUNTS = np.random.default_rng(3).poisson(200.0, 20)
MIDDLES = 0.5 * (EDGES[1:] + EDGES[:-1])


def rows(*columns, sep=",", fmt="{:.10g}"):
    return "\n".join(sep.join(fmt.format(x) for x in row) for row in zip(*columns, strict=True))


def ecsv():
    table = Table({"energy": MIDDLES * u.keV, "counts": COUNTS})
    table["energy"] = table["energy"].to(u.MeV)
    lines = []
    table.write(Lines(lines), format="ascii.ecsv")
    return "".join(lines)


class Lines:
    """A file that keeps what is written."""

    def __init__(self, lines):
        self.write = lines.append


BINS, POINTS = (EDGES[:-1], EDGES[1:], COUNTS), (MIDDLES, COUNTS)

FORMS = {
    "bins with names": "low_keV,high_keV,counts\n" + rows(*BINS),
    "bins without names": rows(*BINS, sep=" "),
    "names of HEASARC": "CHANNEL E_MIN E_MAX COUNTS\n" + rows(range(20), *BINS, sep=" "),
    "MeV": "low_MeV,high_MeV,counts\n" + rows(EDGES[:-1] / 1e3, EDGES[1:] / 1e3, COUNTS),
    "points": rows(*POINTS),
    "tabs": "Energy (keV)\tCounts\n" + rows(*POINTS, sep="\t"),
    "as papers write": "E / keV,counts per bin\n" + rows(*POINTS),
    "blanks": "\n".join(f"  {e:9.3f}   {n:6d}" for e, n in zip(*POINTS, strict=True)),
    "names in a comment": "# run 7, live time 300 s\n# energy_MeV counts\n"
    + rows(MIDDLES / 1e3, COUNTS, sep=" "),
    "Windows": "\ufeffenergy,counts\r\n" + rows(*POINTS).replace("\n", "\r\n"),
    "German": "Energie (keV);counts\n" + rows(*POINTS, sep=";").replace(".", ","),
    "errors": rows(MIDDLES, COUNTS, np.sqrt(COUNTS), sep=" "),
    "errors with names": "energy,counts,error\n" + rows(MIDDLES, COUNTS, np.sqrt(COUNTS)),
    "words in a comment": "# live time\n" + rows(*POINTS),
    "calibrated": "Calibrated nominal energy (keV),Counts\n" + rows(*POINTS),
    "channels": "Channel\tEnergy\tCounts\n" + rows(range(20), *POINTS, sep="\t"),
    "lower edges": "low,counts\n" + rows(EDGES[:-1], COUNTS),
    "ECSV with a unit": ecsv(),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_every_form_is_the_same_spectrum(tmp_path, text):
    path = tmp_path / "spectrum.txt"
    path.write_bytes(text.encode())
    events = open_events(path)
    assert events.labels == ("Em",) and str(path) in repr(events)
    np.testing.assert_allclose(events.energy_edges, EDGES, rtol=1e-9)
    np.testing.assert_array_equal(events.energy_counts(), COUNTS)
    of_middles = not any(name in text.lower() for name in ("low", "e_min")) and (
        text != FORMS["bins without names"]
    )
    assert any("middles of the bins" in note for note in events.notes) == of_middles


def test_columns_that_are_not_used_are_told(tmp_path):
    path = tmp_path / "spectrum.csv"
    path.write_text("energy,counts,background\n" + rows(MIDDLES, COUNTS, COUNTS - 5))
    events = open_events(path)
    np.testing.assert_array_equal(events.energy_counts(), COUNTS)
    assert "spectrum.csv: not used: the columns background" in events.notes


def test_it_is_what_a_plugin_takes_and_what_can_be_pickled(tmp_path, shared_data):
    path = tmp_path / "spectrum.csv"
    path.write_bytes("# Ger\u00e4t 7\n".encode("latin-1") + FORMS["bins with names"].encode())
    plugin = LineBackgroundLike("lab", path)
    np.testing.assert_array_equal(plugin.spectrum.counts, COUNTS)
    again = pickle.loads(pickle.dumps(open_events(path)))
    np.testing.assert_array_equal(again.energy_counts(), COUNTS)
    both = open_events([path, path])
    np.testing.assert_array_equal(both.energy_counts(), 2 * COUNTS)


def test_published_spectra_are_read_as_numpy_reads_them(shared_data):
    paths = sorted((shared_data / "spectra").glob("*.csv"))
    assert len(paths) > 10
    for path in paths:
        low, high, counts = np.loadtxt(path, delimiter=",", skiprows=1).T
        events = open_events(path)
        np.testing.assert_allclose(events.energy_edges, [*low, high[-1]], rtol=1e-9)
        np.testing.assert_array_equal(events.energy_counts(), counts)


def test_bins_at_and_below_0_kev_are_left_out_and_told(tmp_path):
    path = tmp_path / "mca.txt"
    path.write_text(rows(np.arange(-1.2, 50, 0.5), np.full(103, 4.0), sep=" "))
    events = open_events(path)
    assert events.energy_edges[0] == pytest.approx(0.05) and events.energy_counts().sum() == 400
    assert any("3 bins from -1.45 keV on, with 12 counts, begin" in note for note in events.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello world\nthis is no table\n", "cannot be read as a spectrum .*low, high, counts"),
        ("events: a.hdf5\nsource_range: [1805, 1812]\n", "cannot be read as a spectrum"),
        ("1\n2\n3\n", r"1 column\(s\)"),
        ("1 " * 1_000_000 + "\n", "a line of 2000000 characters"),
        ("<html><table>\n<tr><td>1</td><td>2</td></tr>\n</table></html>\n", "it is HTML or XML"),
        ("1 2 3 4\n" * 3, "not said which column is what .4 columns"),
        ("# %ECSV 1.0\n# ---\n# datatype: !!python/object/apply:os.getcwd []\n"
         "energy counts\n1700 2\n1701 4\n", "cannot be read as a spectrum"),
        ("1700 5\n", r"1 row\(s\)|no table"),
        ("energy,counts\n1700,5\n1701,\n1702,3\n", "counts has no finite number in row 2"),
        ("energy,counts\n1700,5\n1701,nan\n1702,3\n", "counts has no finite number in row 2"),
        ("energy,counts\n1700,5\n1701,many\n1702,3\n", "counts holds 'many', which is no number"),
        ("energy,counts\n1700,5\n1701,-4\n1702,3\n", "not negative, but bin 1"),
        ("energy,counts\n1700,5\n1702,4\n1701,3\n", r"must increase, but 1701 \(row 3"),
        ("low,high,counts\n1700,1701,5\n1705,1706,4\n", r"must touch, .* 1701 .*row 2.*1705"),
        ("low,high,counts\n1700,1700,5\n1701,1702,4\n", "Row 1 .* 1700 to 1700"),
        ("1700 17 99\n1701 18 98\n1702 16 97\n", "not said which column is what .3 columns"),
        ("foo,bar\n1700,5\n1701,4\n", "not said which column is what .*foo, bar"),
        ("energy,counts/keV\n1700,5\n1701,4\n", "counts/keV holds rates"),
        ("energy,cps\n1700,5\n1701,4\n", "cps holds rates"),
        ("energy,counts per second\n1700,5\n1701,4\n", "counts per second holds rates"),
        ("1.7 5\n1.8 4\n", "end at 1.85 keV. If they are in MeV.*energy_MeV"),
        ("1 5\n2 4\n3 3\n", "channel numbers"),
        ("energy,counts,error\n1700,100,3\n1701,90,3\n", "not the roots of the counts"),
        ("energy,counts,counts\n1700,100,3\n1701,90,3\n", "cannot be read|not said"),
        ("# %ECSV 1.0\n# ---\n# datatype:\n# - {name: energy, unit: m, datatype: float64}\n"
         "# - {name: counts, datatype: int64}\nenergy counts\n1700 5\n1701 4\n", "convert"),
        ("# %ECSV 1.0\n# ---\n# datatype:\n# - {name: energy, unit: keV, datatype: float64}\n"
         "# - {name: counts, unit: 1 / s, datatype: int64}\nenergy counts\n1700 5\n1701 4\n",
         "counts have the unit 1 / s"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "spectrum.txt"
    path.write_text(text)
    with pytest.raises(LineBackgroundError, match=message) as raised:
        open_events(path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 700


def test_other_files_get_the_message_that_helps(tmp_path):
    path = tmp_path / "events.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(2880))
    with pytest.raises(FileError, match="bin an event list with bin_events first"):
        open_events(path)


def test_a_large_text_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "large.csv"
    path.write_text(rows(*POINTS))
    monkeypatch.setattr(spectrum_text, "MAX_BYTES", 100)
    with pytest.raises(FileError, match="more than 100 bytes too large for a spectrum"):
        open_events(path)
