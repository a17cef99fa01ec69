"""Files and functions stay small enough to read, and every module has its tests."""

import ast
from pathlib import Path

import pytest

import cosi_linebkg_plugin

PACKAGE = Path(cosi_linebkg_plugin.__file__).parent
TESTS = Path(__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}

LINES_OF_A_FILE = 800
LINES_OF_A_FUNCTION = 60
PARAMETERS = 8

LONG_FILES = {
    "spectrum.kernels": "compiled code that calls itself across files is compiled more than once",
}
#: Public functions whose options are keywords; everything else groups what belongs together.
MANY_PARAMETERS = {
    "app.simulation.simulate": "every part of the simulated sky and instrument may be replaced",
    "lines.search.find_lines": "the options of a search, all but the spectrum by keyword",
    "show.report.write_report": "what stands on the page, all but the file by keyword",
    "template.template.BackgroundTemplate.__init__": "its attributes, all but four by keyword",
}
#: Modules without a test file of their own: where they are tested, and why there.
TESTED_ELSEWHERE = {
    "errors": ("spectrum/test_axis.py", "each is raised and looked at where it belongs"),
    "template.steps": ("template/test_build.py", "what they make together"),
    "events.plan": ("events/test_options.py", "the numbers of the options"),
}


def functions(tree, owner=""):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{owner}{node.name}", node
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield from functions(node, f"{owner}{node.name}.")


def lines_of_code(node):
    """Lines from the signature to the end, without the docstring."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def parameters(node):
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_compiled(module):
    """Compiled functions get numbers and arrays one by one: numba takes no dataclass."""
    return module.endswith("kernels")


@pytest.mark.parametrize("module", FILES)
def test_sizes(module):
    text = FILES[module].read_text(encoding="utf-8")
    if module not in LONG_FILES:
        assert len(text.splitlines()) <= LINES_OF_A_FILE
    if is_compiled(module):
        return
    for name, node in functions(ast.parse(text)):
        where = f"{module}.{name}"
        assert lines_of_code(node) <= LINES_OF_A_FUNCTION, where
        assert parameters(node) <= PARAMETERS or where in MANY_PARAMETERS, where


def test_every_module_has_its_tests():
    missing = set()
    for module in FILES:
        *folder, name = module.split(".")
        if not list(TESTS.joinpath(*folder).glob(f"test_{name}*.py")):
            missing.add(module)
    assert missing - set(TESTED_ELSEWHERE) == set()


def test_the_exceptions_are_there():
    for module in (*LONG_FILES, *TESTED_ELSEWHERE):
        assert module in FILES
    for place, _ in TESTED_ELSEWHERE.values():
        assert (TESTS / place).exists(), place
