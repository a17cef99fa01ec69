"""Options are declared once: section, arguments and keywords follow the dataclass."""

import argparse
import inspect
from dataclasses import MISSING, dataclass, field, fields

import pydantic
import pytest

from cosi_linebkg_plugin import LineBackgroundLike, bin_events
from cosi_linebkg_plugin.app import config
from cosi_linebkg_plugin.app.bin_command import add_arguments
from cosi_linebkg_plugin.events.options import BinningJob, BinningOptions
from cosi_linebkg_plugin.options import KINDS, about, options_of, takes_options
from cosi_linebkg_plugin.template.options import TemplateOptions

DECLARED = {BinningJob: config.BinningSection, TemplateOptions: config.TemplateSection}

FUNCTIONS = {BinningJob: bin_events, TemplateOptions: LineBackgroundLike.background_template}


def arguments_of(declared):
    parser = argparse.ArgumentParser()
    add_arguments(parser, declared)
    return {action.dest: action for action in parser._actions}


def words(text):
    return " ".join(text.split())


@dataclass(frozen=True, kw_only=True)
class WithOneMore(BinningOptions):
    """What a new option looks like."""

    sharpness: float = field(
        default=2.5, metadata=about("How sharp, in percent (50 % is much).", "width", "mm")
    )


@pytest.mark.parametrize("declared", DECLARED)
def test_every_field_is_an_option(declared):
    options = options_of(declared)
    assert list(options) == [f.name for f in fields(declared)]
    for option in options.values():
        assert option.about.endswith(".") and not option.about[0].islower() and option.kind in KINDS


#: Defaults of a configuration that are not those of a call: a run looks twice.
IN_FILES = {"validate": True}


@pytest.mark.parametrize("declared", DECLARED)
def test_the_configuration_has_names_defaults_and_words(declared):
    keys = DECLARED[declared].model_fields
    options = {k: o for k, o in options_of(declared).items() if o.kind != "python"}
    assert list(keys) == list(options)
    for name, option in options.items():
        assert keys[name].is_required() == option.required
        in_file = IN_FILES.get(name, option.default)
        assert option.required or keys[name].default == in_file
        assert keys[name].description == option.line


@pytest.mark.parametrize("declared", FUNCTIONS)
def test_functions_show_names_defaults_and_words(declared):
    function = FUNCTIONS[declared]
    parameters = inspect.signature(function).parameters
    keywords = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in keywords] == list(options_of(declared))
    docstring = inspect.getdoc(function)
    assert "{options}" not in docstring and max(map(len, docstring.splitlines())) <= 100
    for p in keywords:
        option = options_of(declared)[p.name]
        assert p.default == (p.empty if option.default is MISSING else option.default)
        assert f"\n{p.name} : {option.type_text}\n    {option.about.split()[0]}" in docstring
        assert option.about in words(docstring)


def test_the_command_line_has_names_and_words():
    arguments = arguments_of(BinningJob)
    for name, option in options_of(BinningJob).items():
        if option.kind != "python":
            assert arguments[name].option_strings == [option.flag]
            assert option.line.removesuffix(".") in arguments[name].help.replace("%%", "%")
            assert arguments[name].default is None  # the dataclass has the default


def test_a_new_option_is_a_new_field_and_nothing_else():
    @takes_options(WithOneMore)
    def bin_more(paths, options):
        """Bin.

        Parameters
        ----------
        paths : path
        {options}
        """
        return paths, options

    @config._section_of(WithOneMore)
    class Section(config.OptionsSection):
        """A section."""

    given = {"energy_edges": "100:200:10", "phi_pix_size": 6.0, "nside": 2}
    assert bin_more("a", **given) == ("a", WithOneMore(**given))
    assert bin_more("a", **given, sharpness=1.0)[1].sharpness == 1.0
    assert "sharpness : float, mm\n    How sharp" in inspect.getdoc(bin_more)
    assert inspect.signature(bin_more).parameters["sharpness"].default == 2.5
    assert Section(**given).values() == {
        name: getattr(WithOneMore(**given), name) for name in options_of(WithOneMore)
    }
    with pytest.raises(pydantic.ValidationError):
        Section(**given, sharpness=-1)
    parser = argparse.ArgumentParser()
    add_arguments(parser, WithOneMore)
    assert parser.parse_args(["x", "--out", "y", "--sharpness", "7"]).sharpness == 7.0
    assert "How sharp, in percent (50 % is much) [mm]; default: 2.5" in words(parser.format_help())


def test_functions_refuse_what_is_no_option():
    with pytest.raises(
        TypeError, match=r"bin_events\(\) got an unexpected keyword argument 'nsid'"
    ):
        bin_events("a", energy_edges="1:2:1", nside=1, nsid=3)
    with pytest.raises(TypeError, match="missing a required .*'energy_edges'"):
        bin_events("a", nside=2)
    with pytest.raises(TypeError, match="too many positional"):
        bin_events("a", "1:2:1")


def test_a_field_of_no_known_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        about("Something.", "nothing")
