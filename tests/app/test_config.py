"""The YAML configuration: what it accepts, and what it says of what it refuses."""

from pathlib import Path
from typing import get_args

import pydantic
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosi_linebkg_plugin.app.config import Config, Line, ModelSection, load_config, parse_config
from cosi_linebkg_plugin.errors import ConfigError
from cosi_linebkg_plugin.io.yaml_file import MAX_BYTES
from cosi_linebkg_plugin.model.spec import CONTINUA, OF_A_LINE, WIDTHS

EXAMPLE = """
events: total.hdf5             # relative to this file
source_range: [1805, 1812]     # keV, or strings with a unit
mask: [[1790, 1825]]
model:
  pivot: 1800
  sigma: 3.0
  tail: false
  lines: [1612, {energy: 1635, window: [1620, 1640]}]
engine: minuit
template:
  method: interpolated
  sidebands: [[1680, 1710], [1735, 1750], [1820, 1875], [1940, 1990]]
  livetime: 7776000            # s
"""

MODEL_DEFAULTS = {
    "pivot": None, "sigma": 3, "width": "constant", "tail": False, "step": False,
    "continuum": "powerlaw", "search": None, "faint_lines": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the configurations name."""
    folder = tmp_path_factory.mktemp("config")
    for name in ("total.hdf5", "second.hdf5", "2025-01-01"):
        (folder / name).touch()
    (folder / "subfolder").mkdir()
    return folder


@pytest.fixture
def load(folder):
    def load(text):
        path = folder / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path)

    return load


@pytest.fixture
def refusal(load, folder):
    """The message on a bad configuration, without the name of the file."""

    def refusal(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        message = str(caught.value)
        assert message.isprintable()  # one line
        assert message.startswith(f"{folder / 'run.yaml'}: ")
        return message.removeprefix(f"{folder / 'run.yaml'}: ")

    return refusal


@pytest.fixture
def refused_value(refusal):
    """The message on a configuration that has events, a source range, and these lines."""
    return lambda text: refusal(f"events: total.hdf5\nsource_range: [1805, 1812]\n{text}")


def test_the_words_of_a_model_are_those_of_background_model():
    """They stand in both: a configuration is read without the numerics."""
    words = {"continuum": CONTINUA, "width": WIDTHS}
    for key, known in words.items():
        assert get_args(ModelSection.model_fields[key].annotation) == known
    of_a_line, _ = get_args(Line.model_fields["width"].annotation)
    assert set(get_args(of_a_line)) == set(OF_A_LINE)


def test_example(load, folder):
    config = load(EXAMPLE)
    assert config.events == (folder / "total.hdf5",)
    assert config.source_range == (1805, 1812)
    assert config.mask == ((1790, 1825),)
    assert (config.model.pivot, config.model.sigma, config.model.tail) == (1800, 3, False)
    assert [line.energy for line in config.model.lines] == [1612, 1635]
    assert [line.window for line in config.model.lines] == [None, (1620, 1640)]
    assert config.engine == "minuit"
    assert config.template.method == "interpolated"
    assert config.template.sidebands[3] == (1940, 1990)
    assert config.template.livetime == 7776000


def test_defaults(load):
    config = load("events: total.hdf5\nsource_range: [1805, 1812]")
    assert config.mask == ((1805.0, 1812.0),)  # the source is no background
    assert config.engine == "minuit"
    assert config.model.model_dump() == MODEL_DEFAULTS | {"lines": ()}
    template = config.template.model_dump()
    assert template.pop("method") == "components" and template.pop("order") == 1
    assert template.pop("shift") is False and template.pop("validate") is True
    assert template.pop("avoid_lines") is False
    assert set(template.values()) == {None}


def test_no_source_range_is_a_fit_alone(load):
    assert load("events: total.hdf5").template is None


def test_lines_may_be_searched_for(load, folder):
    config = load("events: total.hdf5\nmodel: {lines: auto}")
    assert config.model.lines == "auto"
    assert config.model.search.model_dump() == {
        "false_alarm": 0.05, "max_lines": None, "fix_to_catalogue": False,
        "calibrate": False, "bend": True,
    }  # fmt: skip
    text = "events: total.hdf5\nmodel: {lines: auto, search: {false_alarm: 0.01, max_lines: 3}}"
    config = load(text)
    assert (config.model.search.false_alarm, config.model.search.max_lines) == (0.01, 3)
    assert parse_config(yaml.safe_load(config.to_yaml()), folder) == config


def test_round_trip(load, folder):
    config = load(EXAMPLE)
    text = config.to_yaml()
    assert parse_config(yaml.safe_load(text), folder) == config
    assert load(text) == config
    assert load(text).to_yaml() == text


def test_round_trip_keeps_paths_as_given(load, folder):
    config = load(
        "events: [./total.hdf5, subfolder/../second.hdf5]\nsource_range: [1805, 1812]\n"
        f"template: {{like: {folder / 'total.hdf5'}}}"
    )
    assert config.events == (folder / "total.hdf5", folder / "second.hdf5")
    values = yaml.safe_load(config.to_yaml())
    assert values["events"] == [str(folder / "total.hdf5"), "subfolder/../second.hdf5"]
    assert values["template"]["like"] == str(folder / "total.hdf5")


def test_to_yaml_holds_every_key_with_its_default(load):
    values = yaml.safe_load(load("events: total.hdf5").to_yaml())
    assert values == {
        "events": ["total.hdf5"],
        "binning": None,
        "source_range": None,
        "mask": [],
        "model": MODEL_DEFAULTS | {"lines": []},
        "engine": "minuit",
        "template": None,
        "output": {"pipeline": False},
    }


def test_frozen(load):
    config = load(EXAMPLE)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.engine = "bayesian"
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.model.sigma = 2.0


def test_paths_are_relative_to_the_configuration(load, folder, monkeypatch):
    load(EXAMPLE)
    monkeypatch.chdir(folder / "subfolder")
    config = load_config("../run.yaml")
    assert config.events == (folder / "total.hdf5",)
    assert config.events[0].is_absolute()


@pytest.mark.parametrize(
    "text, energy",
    [
        ("1805", 1805),
        ("'1805'", 1805),
        ("1805 keV", 1805),
        ("1.805 MeV", 1805),
        ("1.805MeV", 1805),
        ("1805000 eV", 1805),
        ("1.805e3", 1805),
        ("1.805e+3 keV", 1805),
        ("01612", 1612),  # octal 906 in YAML 1.1
        ("' 1805 '", 1805),
    ],
)
def test_energies(load, text, energy):
    config = load(f"events: total.hdf5\nmodel: {{pivot: {text}, lines: [{text}]}}")
    assert config.model.pivot == pytest.approx(energy, rel=1e-12)
    assert config.model.lines[0].energy == config.model.pivot


def test_ranges_and_livetimes_with_units(load):
    config = load(
        "events: total.hdf5\nsource_range: [1.805 MeV, 1812]\ntemplate: {livetime: 90 d}\n"
        "model: {lines: [{energy: 1.635 MeV, window: [1620, 1640 keV]}]}"
    )
    assert config.source_range == pytest.approx((1805, 1812), rel=1e-12)
    assert config.template.livetime == pytest.approx(7776000)
    assert config.model.lines[0].window == (1620, 1640)


def test_edges_of_energy_bins_may_have_units(load):
    """They were the only energies of the configuration that could not."""
    mixed = '["1.805 MeV", 1808, "1812 keV"]'
    config = load(f"{EXAMPLE}  energy_edges: {mixed}\n")
    assert config.template.energy_edges == pytest.approx((1805, 1808, 1812))
    with pytest.raises(
        ConfigError, match=r"energy_edges\[1\]: got '8 s'; s does not convert to keV"
    ):
        load(f'{EXAMPLE}  energy_edges: [1805, "8 s"]\n')
    binned = load(
        f"events: total.hdf5\nbinning: {{energy_edges: {mixed}, nside: 4, phi_pix_size: 6}}"
    )
    assert binned.binning.energy_edges == pytest.approx((1805, 1808, 1812))


def test_sidebands_may_touch_the_source_range(load):
    config = load(
        "events: total.hdf5\nsource_range: [1.8051 MeV, 1.8123 MeV]\n"
        "template: {sidebands: [[1790, 1805.1], [1812.3, 1820]]}"
    )
    assert len(config.template.sidebands) == 2


def test_names_that_look_like_dates_are_paths(load, folder):
    assert load("events: 2025-01-01").events == (folder / "2025-01-01",)


def test_byte_order_mark(load):
    assert load(b"\xef\xbb\xbfevents: total.hdf5").engine == "minuit"


ENERGY = 'an energy is a finite number above 0, in keV or with its unit ("1.8 MeV").'
RANGE = "a range is [low, high], two energies with low < high."
RANGES = "a list of ranges [[low, high], ...] is needed."
EVENTS = "events are a path, a pattern, a folder, or a list of these"
KEYS = "Known here: events, binning, source_range, mask, model, engine, template, output, regions."


@pytest.mark.parametrize(
    "text, message",
    [
        ("souce_range: 1", f"souce_range: unknown key; did you mean source_range? {KEYS}"),
        ("zzz: 1", f"zzz: unknown key. {KEYS}"),
        ("sigma: 3", f"sigma: unknown key; did you mean model.sigma? {KEYS}"),
        ("3: 3", f"'3.0': unknown key. {KEYS}"),
        ('"a\\nb": 3', f"'a\\nb': unknown key. {KEYS}"),
        ("<<: {engine: minuit}", f"'<<': unknown key. {KEYS}"),
        (
            "model: {sigm: 3}",
            "model.sigm: unknown key; did you mean sigma? Known here: pivot, sigma, width, tail, "
            "step, continuum, lines, search, faint_lines.",
        ),
        (
            "model: {lines: [1, {energy: 3, windw: [1, 4]}]}",
            "model.lines[1].windw: unknown key; did you mean window? Known here: energy, window, "
            "width.",
        ),
        (
            "template: {sideband: []}",
            "template.sideband: unknown key; did you mean sidebands? "
            "Known here: method, sidebands, window, reach, avoid_lines, order, tracers, "
            "line_ratio, smoothing, smoothing_fwhm, l_cut, rebin_phi, pool, like, energy_edges, "
            "sky, observed, livetime, shift, norms, lines, validate.",
        ),
        ("model: 3", "model: got 3; a mapping of keys to values is needed."),
        ("model:", "model: got nothing; a mapping of keys to values is needed."),
        ("template: []", "template: got []; a mapping of keys to values is needed."),
        ("model: {tail: 1}", "model.tail: got 1; allowed is a valid boolean."),
        (
            "model: {faint_lines: catalogue}",
            "model.faint_lines: got 'catalogue'; true, false or a list of energies is needed.",
        ),
        ("model: {faint_lines: [1652, -1]}", f"model.faint_lines[1]: got -1; {ENERGY}"),
        (
            "model: {faint_lines: true}\nengine: bayesian",
            "model.faint_lines: got true; faint lines are marginalised on top of engine minuit or "
            "joint_likelihood.",
        ),
        ("model: {tail: 'yes'}", "model.tail: got 'yes'; allowed is a valid boolean."),
        ("model: {pivot: true}", f"model.pivot: got true; {ENERGY}"),
        ("model: {pivot: .nan}", f"model.pivot: got nan; {ENERGY}"),
        ("model: {pivot: 1e999}", f"model.pivot: got inf; {ENERGY}"),
        ("model: {pivot: -.inf}", f"model.pivot: got -inf; {ENERGY}"),
        ("model: {pivot: -1805}", f"model.pivot: got -1805; {ENERGY}"),
        ("model: {pivot: 0 keV}", f"model.pivot: got '0 keV'; {ENERGY}"),
        ("model: {pivot: 18:05}", f"model.pivot: got '18:05'; {ENERGY}"),
        ("model: {pivot: 0x70d}", f"model.pivot: got '0x70d'; {ENERGY}"),
        ("model: {pivot: keV}", f"model.pivot: got 'keV'; {ENERGY}"),
        ("model: {pivot: [1805]}", f"model.pivot: got [1805]; {ENERGY}"),
        ("model: {sigma: }", f"model.sigma: got nothing; {ENERGY}"),
        (
            "model: {pivot: 1.8 kg}",
            f"model.pivot: got '1.8 kg'; kg does not convert to keV: {ENERGY}",
        ),
        (
            "model: {pivot: 1805 Kev}",
            f"model.pivot: got '1805 Kev'; Kev does not convert to keV: {ENERGY}",
        ),
        ("model: {lines: all}", "model.lines: got 'all'; lines are a list of energies, or auto."),
        (
            "model: {lines: [1612], search: {false_alarm: 0.01}}",
            "model.search: got a mapping; a search needs lines: auto; leave out one of them.",
        ),
        (
            "model: {lines: auto, search: {false_alarm: 0.6}}",
            "model.search.false_alarm: got 0.6; a number from 1e-09 to 0.49 is needed.",
        ),
        (
            "model: {lines: auto, search: {max_line: 3}}",
            "model.search.max_line: unknown key; did you mean max_lines? "
            "Known here: false_alarm, max_lines, fix_to_catalogue, calibrate, bend.",
        ),
        ("model: {lines: [auto]}", f"model.lines[0]: got 'auto'; {ENERGY}"),
        (
            "model: {lines: [1612, 1635, 1.612 MeV]}",
            "model.lines[2]: got 1612; lines[0] has this energy; give each line once.",
        ),
        (
            "model: {lines: [1612, {energy: 1635, window: [1640, 1650]}]}",
            "model.lines[1].window: got [1640, 1650]; the line's 1635 keV must lie inside.",
        ),
        (
            "model: {lines: [{energy: 1640, window: [1640, 1650]}]}",
            "model.lines[0].window: got [1640, 1650]; the line's 1640 keV must lie inside.",
        ),
        (
            "model: {lines: [{window: [1640, 1650]}]}",
            "model.lines[0].energy: got nothing; this key is required.",
        ),
        ("model: {lines: [{energy: 1, window: 2}]}", f"model.lines[0].window: got 2; {RANGE}"),
        (
            "engine: minut",
            "engine: got 'minut'; allowed is 'minuit', 'joint_likelihood' or 'bayesian'.",
        ),
        (
            "template: {method: magic}",
            "template.method: got 'magic'; allowed is 'components', 'interpolated', 'sideband' or "
            "'auto'.",
        ),
        ("template: {order: 3}", "template.order: got 3; a whole number from 0 to 2 is needed."),
        (
            "template: {l_cut: 2.5}",
            "template.l_cut: got 2.5; a whole number of 0 or more is needed.",
        ),
        (
            "template: {smoothing_fwhm: -1}",
            "template.smoothing_fwhm: got -1; a number above 0 is needed.",
        ),
        (
            "template: {line_ratio: {line: 1808.65, value: 0.1}}",
            "template.line_ratio.tracer: got nothing; this key is required.",
        ),
        ("mask: 1790", f"mask: got 1790; {RANGES}"),
        ("mask:", f"mask: got nothing; {RANGES}"),
        ("mask: [1790, 1825]", f"mask[0]: got 1790; {RANGE}"),
        ("mask: [[1, 2], [1, 2, 3]]", f"mask[1]: got [1, 2, 3]; {RANGE}"),
        ("mask: [[1, 2], [1825, 1790]]", f"mask[1]: got [1825, 1790]; {RANGE}"),
        ("mask: [[1790, 1790]]", f"mask[0]: got [1790, 1790]; {RANGE}"),
        ("mask: [[1790, .inf]]", f"mask[0][1]: got inf; {ENERGY}"),
        ("mask: [[true, 1790]]", f"mask[0][0]: got true; {ENERGY}"),
        (
            "template: {sidebands: [[1680, 1710], [1735, 1750], [1811, 1820]]}",
            "template.sidebands[2]: got [1811, 1820]; "
            "a sideband must not overlap source_range [1805, 1812].",
        ),
        (
            "template: {sidebands: [[1806, 1807]]}",
            "template.sidebands[0]: got [1806, 1807]; "
            "a sideband must not overlap source_range [1805, 1812].",
        ),
        (
            "template: {method: sideband}",
            f"template.sidebands: got nothing; for method sideband, {RANGES}",
        ),
        (
            "template: {sidebands: []}",
            f"template.sidebands: got []; for method components, {RANGES}",
        ),
        (
            "template: {livetime: 90 m}",
            "template.livetime: got '90 m'; m does not convert to s: "
            'a time is a finite number above 0, in s or with its unit ("90 d").',
        ),
    ],
)
def test_refused_values(refused_value, text, message):
    assert refused_value(text) == message


def test_template_needs_source_range(refusal):
    assert refusal("events: total.hdf5\ntemplate: {}") == (
        "template: got a mapping; a template needs source_range; leave out both for a fit alone."
    )


def test_unknown_key_is_named_before_what_it_causes(refusal):
    assert refusal("event: total.hdf5\ntemplate: {}").startswith("event: unknown key")


@pytest.mark.parametrize(
    "text, message",
    [
        ("source_range: [1, 2]", "events: got nothing; this key is required."),
        ("events: 3", "events: got 3; events are a path, a pattern, a folder, or a list of these."),
        (
            "events: []",
            "events: got []; events are a path, a pattern, a folder, or a list of these.",
        ),
        (
            "events: [total.hdf5, 3]",
            "events[1]: got 3; a file is a path, relative to the configuration file.",
        ),
        (
            "events: no.hdf5",
            "events: got 'no.hdf5'; '{folder}/no.hdf5' is no file; "
            "give the path of an existing one.",
        ),
        (
            "events: [total.hdf5, subfolder]",
            "events[1]: got 'subfolder'; The folder {folder}/subfolder holds no file that ends in "
            ".fits, .fits.gz, .hdf5, .h5.",
        ),
        (
            "events: [second.hdf5, total.hdf5, ./second.hdf5]",
            "events[2]: got '{folder}/second.hdf5'; events[0] is this file already.",
        ),
        (
            "events: total.hdf5\nsource_range: [1, 2]\ntemplate: {like: no.hdf5}",
            "template.like: got 'no.hdf5'; '{folder}/no.hdf5' is no file; "
            "give the path of an existing one.",
        ),
    ],
)
def test_refused_files(refusal, folder, text, message):
    assert refusal(text) == message.replace("{folder}", str(folder))


@pytest.mark.parametrize("name", ['"a\\0b"', '"\\ud800"', '"a\\nb"', "x" * 5000])
def test_impossible_file_names(refusal, name):
    assert "is no file" in refusal(f"events: {name}")


ANCHOR = "anchors, aliases and tags are not allowed; write the value itself."


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "got nothing; a mapping of keys to values is needed."),
        ("# a comment", "got nothing; a mapping of keys to values is needed."),
        ("[1, 2]", "got [1, 2]; a mapping of keys to values is needed."),
        ("events", "got 'events'; a mapping of keys to values is needed."),
        (
            "engine: minuit\nevents: a: b",
            "line 2 is not valid YAML: mapping values are not allowed here.",
        ),
        ("events: a\n---\nevents: b", "line 2 is not valid YAML: but found another document."),
        ("? [1]\n: 3", "line 1 is not valid YAML: found unhashable key."),
        (
            "events: a\nmask: []\nevents: b",
            "line 3 is not valid YAML: key 'events' is there since line 1.",
        ),
        (
            "model: {tail: true, tail: false}",
            "line 1 is not valid YAML: key 'tail' is there since line 1.",
        ),
        ("mask: &a []", f"line 1 is not valid YAML: {ANCHOR}"),
        ("mask:\n  *a", f"line 2 is not valid YAML: {ANCHOR}"),
        ("engine: !!python/name:os.system", f"line 1 is not valid YAML: {ANCHOR}"),
        ("events: \0", "not plain text: special characters are not allowed at character 8."),
        ("[" * 10_000, "nested too deeply for a configuration."),
        (
            "#" * (MAX_BYTES + 1),
            f"larger than {MAX_BYTES} bytes; is this a configuration?",
        ),
        (
            b"events: \xe9.hdf5",
            "cannot read this configuration file: 'utf-8' codec can't decode byte 0xe9 "
            "in position 8: invalid continuation byte.",
        ),
    ],
)
def test_refused_yaml(refusal, text, message):
    assert refusal(text) == message


def test_configuration_that_cannot_be_read(folder):
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot read .*: No such file or directory\."):
        load_config(folder / "no.yaml")
    with pytest.raises(ConfigError, match=r"subfolder: cannot read .*: Is a directory"):
        load_config(folder / "subfolder")
    with pytest.raises(ConfigError, match=r"^'a\\x00b': cannot read"):
        load_config("a\0b")


def test_parse_config_names_the_configuration(folder):
    with pytest.raises(ConfigError, match=r"^configuration: events: got nothing"):
        parse_config({}, folder)
    with pytest.raises(ConfigError, match=r"^this: got nothing"):
        parse_config(None, folder, "this")
    with pytest.raises(ConfigError, match="pivot: got a huge number"):
        parse_config({"events": "total.hdf5", "model": {"pivot": 10**5000}}, folder)


def is_config_or_refusal(read):
    """The configuration, or None after checking that the refusal is a ConfigError on one line."""
    try:
        config = read()
    except ConfigError as error:
        assert str(error).isprintable()
        return None
    assert isinstance(config, Config)
    return config


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.sampled_from(["total.hdf5", "auto", "1.8 MeV", "90 d", "5 kg", "sideband", "bayesian"])
)
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner), max_leaves=12
)
NUMBERS = st.floats(1000, 2000) | st.sampled_from([1805, "1.8 MeV", "1805", 1806.5]) | SCALARS
PAIRS = st.lists(NUMBERS, min_size=2, max_size=2)
LINES = NUMBERS | st.fixed_dictionaries({"energy": NUMBERS}, optional={"window": PAIRS})


def mostly(keys):
    """Mappings with the known keys, whose values are mostly of the kind that is asked for."""
    return st.fixed_dictionaries({}, optional={k: v | NESTED for k, v in keys.items()})


SECTIONS = {
    "source_range": PAIRS,
    "mask": st.lists(PAIRS, max_size=3),
    "model": mostly(
        {
            "pivot": NUMBERS,
            "sigma": NUMBERS,
            "tail": st.booleans(),
            "faint_lines": st.booleans() | st.lists(NUMBERS, max_size=2),
            "lines": st.lists(LINES, max_size=4) | st.just("auto"),
            "search": mostly({"false_alarm": NUMBERS, "max_lines": st.integers(0, 9)}),
        }
    ),
    "engine": st.sampled_from(["minuit", "joint_likelihood", "bayesian"]),
    "template": mostly(
        {
            "method": st.sampled_from(["interpolated", "sideband"]),
            "sidebands": st.lists(PAIRS, max_size=3),
            "like": st.just("total.hdf5"),
            "livetime": NUMBERS,
        }
    ),
}
MAPPINGS = st.builds(
    lambda events, values: {"events": events, **values},
    st.just("total.hdf5") | NESTED,
    mostly(SECTIONS),
)


@settings(deadline=None)
@given(data=NESTED | MAPPINGS)
@example(data={"events": "\x1f["})
def test_any_data_is_a_config_or_a_config_error(folder, data):
    config = is_config_or_refusal(lambda: parse_config(data, folder))
    if config is not None:
        assert parse_config(yaml.safe_load(config.to_yaml()), folder) == config


@settings(deadline=None)
@given(data=NESTED | MAPPINGS)
def test_any_yaml_is_a_config_or_a_config_error(folder, data):
    path = folder / "fuzz.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    is_config_or_refusal(lambda: load_config(path))


@settings(deadline=None)
@given(raw=st.binary() | st.text(alphabet="ab:-?[]{}&*!|>'\"#%@`, \n\t0.").map(str.encode))
def test_any_bytes_are_a_config_or_a_config_error(folder, raw):
    path = folder / "fuzz.yaml"
    path.write_bytes(raw)
    is_config_or_refusal(lambda: load_config(path))


@given(name=st.text())
def test_any_path_is_a_config_or_a_config_error(folder, name):
    is_config_or_refusal(lambda: load_config(Path("no-such-folder") / name))
