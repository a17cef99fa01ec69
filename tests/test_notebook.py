"""The tutorial runs from top to bottom, without a warning, and ends where it says."""

import os
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "al26_tutorial.ipynb"

#: Run in front of the notebook: a warning that comes from a line of the package is an error.
STRICT = "import warnings\nwarnings.filterwarnings('error', module='cosi_linebkg_plugin')"


def read():
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def images(cell):
    return [o for o in cell.outputs if "image/png" in o.get("data", {})]


def text(cell):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def test_tutorial_is_committed_with_its_results_and_small():
    assert NOTEBOOK.stat().st_size < 1_500_000
    cells = code_cells(read())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(len(images(cell)) for cell in cells) >= 12


def test_links_of_the_tutorial_lead_somewhere():
    text = "\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) >= 5
    for link in links:
        assert (NOTEBOOK.parent / link).exists(), link


@pytest.mark.slow
def test_tutorial_runs_without_a_warning(monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = str(NOTEBOOK.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook, committed = read(), read()
    import nbformat

    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": root}}
    )
    client.execute()  # a failing cell raises

    cells = code_cells(notebook)[1:]
    written = [o.text for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    assert written == []
    said = "\n".join(text(cell) for cell in cells)
    assert "warning" not in said.lower()
    for now, before in zip(cells, code_cells(committed), strict=True):
        assert len(images(now)) == len(images(before)), now.source

    # the tutorial's five variants beside ours, and what the text says of them
    rows = [line for line in text(cells[-7]).splitlines() if "±" in line]
    assert len(rows) == 8
    difference = {row.split("  ")[0]: float(row.split("±")[1].split()[1]) for row in rows}
    for name, percent in difference.items():
        assert (abs(percent) < 4) if name.startswith("components") else (-18 < percent < -14)
    (ours,) = (text(cell) for cell in cells if "our_fit.summary()" in cell.source)
    assert "may be used for a template" in " ".join(ours.split()) and "NOT be used" not in ours
