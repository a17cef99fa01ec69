"""The studies put their tables where the pages have room for them."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import study

STUDIES = sorted(Path(study.__file__).parent.glob("*.py"))


def published():
    """Study, name and page of each call of `publish` whose name is written out."""
    for path in STUDIES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "publish":
                name, *page = (call.args[0], *call.args[2:])
                page = ast.literal_eval(page[0]) if page else "validation.md"
                if isinstance(name, ast.Constant):
                    yield path.name, name.value, page


def test_every_table_has_its_place():
    found = list(published())
    assert len(found) > 14
    for script, name, page in found:
        text = (study.DOCS / page).read_text(encoding="utf-8")
        assert text.count(f"<!-- {name} -->\n") == 1, f"{script}: {name} in {page}"
        after = text.split(f"<!-- {name} -->")[1]
        assert after[after.index("<!-- ") :].startswith(study.END), f"{name} in {page} has no end"


def test_a_table_goes_between_its_marks(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"a\n<!-- one -->\nold\n{study.END}\nb\n<!-- two -->\nkept\n{study.END}\n")
    monkeypatch.setattr(study, "DOCS", tmp_path)
    before = page.read_text()
    monkeypatch.setattr(sys, "argv", ["study.py", "7"])
    study.publish("one", "new", "page.md")
    assert page.read_text() == before and capsys.readouterr().out == "new\n"
    assert study.number_of_runs(30) == 7
    monkeypatch.setattr(sys, "argv", ["study.py", "--write"])
    study.publish("one", "new", "page.md")
    assert page.read_text() == before.replace("old", "new")
    assert study.number_of_runs(30) == 30


def test_the_poisson_fit_finds_amplitudes_and_their_covariance():
    """Two flat halves and a third parameter that shifts counts from one to the other."""
    observed = np.array([400.0, 100.0])
    rows = np.eye(2)
    theta, covariance = study.poisson_fit(
        observed, lambda _: rows, np.array([300.0, 150.0]), 2, (400.0, 20.0)
    )
    np.testing.assert_allclose(theta, observed, rtol=1e-6)
    np.testing.assert_allclose(covariance, np.diag([1 / (1 / 400 + 1 / 400), 100.0]), rtol=1e-6)
    with pytest.raises(RuntimeError, match="did not converge"):
        study.poisson_fit(
            observed, lambda _: rows, np.array([300.0, 150.0]), 2, (400.0, 20.0), observed + 50
        )
