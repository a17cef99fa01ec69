"""The rendered documentation: ``sphinx-build -W docs docs/_build``.

The pages are Markdown (MyST), as they are read on a repository's own site; the reference comes from
the docstrings, and the tutorial is the notebook with its committed results.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version as version_of
from pathlib import Path

import yaml

DOCS = Path(__file__).parent

project = "cosi_linebkg_plugin"
author = "The cosi_linebkg_plugin maintainers"
version = release = version_of("cosi-linebkg-plugin")

extensions = [
    "myst_nb",  # Markdown pages and the notebook
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings in numpy's layout
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build", "figures"]
html_theme = "furo"
html_title = "COSI line background"
html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
# "counts" and the like in the types of parameters are words, not names
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes and units
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Parameters and attributes", "params_style")]


def table_of_parameters(app, what, name, found, options, lines):
    """The docstring of an astromodels function is YAML; a reader wants its formula and a table."""
    if what != "class" or not hasattr(found, "_function_definition"):
        return
    definition = yaml.safe_load(inspect.cleandoc(found.__doc__))
    formula = definition["latex"].strip().strip("$").strip()
    lines[:] = [definition["description"].strip(), "", ".. math::", "", f"   {formula}", ""]
    lines += [".. list-table::", "   :header-rows: 1", "", "   * - parameter"]
    lines += [f"     - {title}" for title in ("", "start", "limits")]
    for parameter, about in definition["parameters"].items():
        fixed = ", fixed" if about.get("fix") in (True, "yes") else ""
        limits = " to ".join(str(about.get(key, "...")) for key in ("min", "max"))
        lines += [f"   * - ``{parameter}``", f"     - {about['desc']}{fixed}"]
        lines += [f"     - {about['initial value']}", f"     - {limits}"]


def copy_tutorial(app):
    """Sphinx reads pages of its own folder alone; the notebook lives with the examples."""
    text = (DOCS.parent / "examples" / "al26_tutorial.ipynb").read_text(encoding="utf-8")
    text = text.replace("](../docs/", "](")
    text = re.sub(r"\]\((\w+\.py)\)", r"](../examples/\1)", text)
    (DOCS / "tutorial.ipynb").write_text(text, encoding="utf-8")


def link_to_the_copy(app, name, source):
    source[0] = source[0].replace("](../examples/al26_tutorial.ipynb)", "](tutorial.ipynb)")


def setup(app):
    app.connect("builder-inited", copy_tutorial)
    app.connect("source-read", link_to_the_copy)
    app.connect("autodoc-process-docstring", table_of_parameters)
