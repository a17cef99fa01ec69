"""A fit in words: the table of its parameters. What is said of the model: test_adequacy.py."""

from dataclasses import replace

import numpy as np
from fits import TWO_LINES
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.numbers import hides_width, unseen_widths
from cosi_linebkg_plugin.fit.words import goodness, parameter_table
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.laws import Law


def test_the_table_says_what_is_free_fixed_linked_or_follows(two_lines):
    f2, f3 = (TWO_LINES.names.index(name) for name in ("F_2", "F_3"))
    parameters = tuple(
        replace(p, free=False) if p.name in ("F_3", "index_1") else p for p in TWO_LINES.parameters
    )
    model = replace(
        TWO_LINES, parameters=parameters, derived=((f3, f2, Law("Line", (0.0, 0.625))),)
    )
    fit = fit_spectrum(model, two_lines)
    table = parameter_table(fit)
    rows = {line.split()[0]: line for line in table.splitlines()}
    assert rows["index_1"].split()[2] == "fixed"
    assert rows["F_2"].split()[1:3] == [f"{fit.values['F_2']:.7g}", f"{fit.errors['F_2']:.3g}"]
    assert f"F_3 = {fit.parameters['F_3'].law}" in table
    assert fit.parameters["F_3"].law == "Line(F_2; a = 0, b = 0.625)"
    assert "sigma_3 = sigma_2" in table and "sigma_3 " not in table.split("sigma_3 =")[0]
    lines = str(fit).splitlines()
    assert lines[-1] == fit.summary() and goodness(fit.adequacy) in lines[-1]


def test_steps_that_follow_their_lines_take_one_row_of_the_table(two_lines):
    """Each step stands in the model with F, mu and sigma of its own line: 60 rows for 20 lines."""
    model = numerical_model(spectrum_parts([1612, 1635, 1670], step=True))
    fit = fit_spectrum(model, two_lines)
    rows = parameter_table(fit).splitlines()
    assert [row for row in rows if " = " in row] == [
        "sigma_3 ... sigma_7 = sigma_2",
        "F_5 ... F_7 = F_2 ... F_4",
        "mu_5 ... mu_7 = mu_2 ... mu_4",
        "step_6, step_7 = step_5",
    ]


def test_a_line_of_its_own_width_is_not_among_those_that_share_one(two_lines):
    """The first and the last alone were named, and sigma_3 seemed to be one of those between."""
    lines = [1612, {"energy": 1635, "width": "own"}, 1670]
    fit = fit_spectrum(numerical_model(spectrum_parts(lines, step=True)), two_lines)
    rows = [row for row in parameter_table(fit).splitlines() if row.startswith("sigma")]
    assert rows[2:] == ["sigma_4, sigma_5, sigma_7 = sigma_2", "sigma_6 = sigma_3"]


def test_a_width_that_the_bins_do_not_show_is_said():
    model = line_model([(1755.0, 4000.0, (1740.0, 1770.0))], k=3000.0, sigma=2.0)
    fits = {}
    for width in (5.0, 14.0):
        edges = np.arange(1600.0, 1901.0, width)
        spectrum = simulated_spectrum(model, edges, np.random.default_rng(3))
        fits[width] = fit_spectrum(model, spectrum)
    assert unseen_widths(fits[5.0]) == [] and "do not show" not in fits[5.0].summary()
    assert unseen_widths(fits[14.0]) == ["sigma_2"]
    assert "Note: the bins do not show the lines' width (sigma_2 = " in fits[14.0].summary()
    assert hides_width(20.0, 3.0) and not hides_width(10.0, 3.0)
