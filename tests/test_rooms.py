"""The rooms of the package are one-way: a module imports only from rooms below its own."""

import ast
from pathlib import Path

import pytest

import cosi_linebkg_plugin

PACKAGE = Path(cosi_linebkg_plugin.__file__).parent

# From the bottom up. Modules of one room may import each other only in the order given.
ROOMS = [
    ["errors", "files", "untrusted", "hdf5", "checks", "spectrum"],
    ["kernels", "lineshapes", "statistic"],
    ["adequacy", "components", "objective", "guess", "posterior", "result", "fit", "weights"],
    ["amounts", "norms", "kinematics", "catalogue"],
    ["simulation"],
    ["slices", "livetime", "histograms"],
    ["event_kernels", "event_files", "selections", "event_sums", "event_dask", "events"],
    ["filters", "smoothing"],
    ["exports", "constraint", "consumers", "comparison"],
    ["template", "making"],
    ["model", "priors"],
    ["linesearch", "plot"],
    ["plugin"],
    ["report"],
    ["config", "event_config"],
    ["pipeline", "demo"],
    ["cli"],
]
ORDER = {name: (i, j) for i, room in enumerate(ROOMS) for j, name in enumerate(room)}

#: Libraries that only some rooms may import at their top level; elsewhere on use.
HEAVY = {
    "astromodels": {"model", "priors", "plugin", "constraint"},
    "threeML": {"plugin", "constraint"},
    "histpy": set(),
    "matplotlib": set(),
    "h5py": set(),
    "astropy": {"config"},
    "healpy": {"simulation", "filters", "comparison"},
    "iminuit": set(),
    "emcee": set(),
    "corner": set(),
    "rich": set(),
    "dask": set(),
    "distributed": set(),
    "cosipy": set(),
}
#: Libraries that no module imports, ever: consumers are met by duck typing.
NEVER = {"cosipy"}


def modules():
    return sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__")


def imports(module, top_level_only=False):
    """(relative?, module, names) of every import statement."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            yield node.level > 0, node.module, [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield False, alias.name, []


def test_every_module_has_a_room():
    assert modules() == sorted(ORDER)


@pytest.mark.parametrize("module", sorted(ORDER))
def test_imports_go_down(module):
    for relative, name, names in imports(module):
        if not relative:
            continue
        targets = [name.split(".")[0]] if name else [n for n in names if n in ORDER]
        for target in targets:
            assert ORDER[target] < ORDER[module], f"{module} imports {target} from above it"


@pytest.mark.parametrize("module", sorted(ORDER))
def test_heavy_libraries_are_imported_on_use(module):
    for relative, name, _ in imports(module, top_level_only=True):
        library = name.split(".")[0] if name and not relative else ""
        if library in HEAVY:
            assert module in HEAVY[library], f"{module} imports {library} at its top level"
    for relative, name, _ in imports(module):
        assert relative or name.split(".")[0] not in NEVER
