"""docs/reference.md says what the docstrings say, and leaves no public name out."""

import re

import pytest
import reference

import cosi_linebkg_plugin

PAGE = reference.PAGE.read_text(encoding="utf-8")


def test_page_is_up_to_date():
    assert reference.build() == PAGE, "run: python tests/studies/reference.py --write"


def test_every_public_name_has_an_entry():
    for name in cosi_linebkg_plugin.__all__:
        assert f"\n### `{name}" in PAGE


def test_contents_lead_to_the_entries():
    headings = re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    # as repositories make them: lower case, blanks become hyphens, punctuation goes
    anchors = [re.sub(r"[^\w\- ]", "", x.lower()).replace(" ", "-") for x in headings]
    assert len(set(anchors)) == len(anchors)
    links = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert len(links) > 50 and set(links) <= set(anchors)


def test_a_docstring_becomes_markdown():
    text = """Fold it.

    Twice ``as much``::

        fold(x)

    Parameters
    ----------
    x, y : ndarray, shape (n,), keV
        One line,
        and one more.
    *rest
        As of `x`.

    Returns
    -------
    float
        The sum.

    Raises
    ------
    ValueError
        If not.
    """
    import inspect

    assert reference.description(inspect.cleandoc(text)) == "\n".join(
        [
            "Fold it.\n",
            "Twice `as much`:\n",
            "```python\nfold(x)\n```\n",
            "**Parameters**\n",
            "- `x`, `y` (ndarray, shape (n,), keV): One line,\n  and one more.",
            "- `*rest`: As of `x`.\n",
            "**Returns**\n",
            "- float: The sum.\n",
            "**Raises**\n",
            "- `ValueError`: If not.",
        ]
    )


def test_a_section_nobody_knows_is_an_error():
    with pytest.raises(ValueError, match="unknown docstring section 'Paramters'"):
        reference.description("Fold.\n\nParamters\n---------\nx\n    It.")
