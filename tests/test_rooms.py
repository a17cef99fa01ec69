"""The rooms of the package are one-way: a folder imports only from folders below it."""

import ast
import re
from pathlib import Path

import pytest

import cosi_linebkg_plugin

PACKAGE = Path(cosi_linebkg_plugin.__file__).parent
ARCHITECTURE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"

# From the bottom up (docs/architecture.md). A folder is a room, and so is a file at the top.
ROOMS = [
    "errors",
    "units",
    "options",
    "io",
    "spectrum",
    "fit",
    "model",
    "lines",
    "histograms",
    "events",
    "consumers",
    "template",
    "show",
    "plugin",
    "app",
]

#: Libraries that only some modules may import at their top level; elsewhere on use.
HEAVY = {
    "astromodels": {"model.build", "model.functions", "model.nuisance", "model.priors"}
    | {"model.read", "plugin", "consumers.constraint"},
    "threeML": {"plugin", "consumers.constraint"},
    "histpy": set(),
    "matplotlib": set(),
    "h5py": set(),
    "astropy": {"app.config", "io.result_table"},
    "healpy": {"app.simulation"},
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


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = sorted(name_of(p) for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def room_of(module):
    return ROOMS.index(module.split(".")[0])


def typing_only(tree):
    """The nodes below `if TYPE_CHECKING:`, which import nothing when the package runs."""
    return {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }


def imports(module, top_level_only=False):
    """(of this package?, module) of everything that a module imports."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    skipped = typing_only(tree)
    package = module.split(".")[:-1]
    for node in tree.body if top_level_only else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:  # a module, or a name in one
                both = ".".join([*base, alias.name]), ".".join(base)
                yield True, next((name for name in both if name in MODULES), both[1])
        elif isinstance(node, ast.ImportFrom):
            yield False, node.module
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield False, alias.name


def test_every_module_has_a_room():
    assert {module.split(".")[0] for module in MODULES} == set(ROOMS)


def test_every_folder_says_what_it_is():
    for folder in (p for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"):
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    for own, target in imports(module):
        if own and target:
            assert room_of(target) <= room_of(module), f"{module} imports {target} from above it"


@pytest.mark.parametrize("room", ROOMS)
def test_files_of_a_folder_form_no_circle(room):
    inside = [m for m in MODULES if m.split(".")[0] == room]
    left = {m: {t for own, t in imports(m) if own and t in inside and t != m} for m in inside}
    while free := [m for m, targets in left.items() if not targets & set(left)]:
        for module in free:
            del left[module]
    assert not left, f"a circle of imports: {left}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_are_imported_on_use(module):
    for own, name in imports(module, top_level_only=True):
        library = name.split(".")[0]
        if not own and library in HEAVY:
            assert module in HEAVY[library], f"{module} imports {library} at its top level"
    for own, name in imports(module):
        assert own or name.split(".")[0] not in NEVER


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def test_private_interfaces_of_others_are_listed():
    """A private name that the package defines nowhere is another library's."""
    own, used = set(), {}
    for module in MODULES:
        tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                used.setdefault(node.attr, module)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                used |= {name: module for name in names if is_private(name)}
    page = ARCHITECTURE.read_text(encoding="utf-8").split("## Private interfaces")[1]
    foreign = {name: module for name, module in used.items() if name not in own}
    assert foreign
    for name, module in foreign.items():
        assert name in page, f"{module} leans on {name}: list it in docs/architecture.md"


def test_the_architecture_shows_every_file():
    tree = ARCHITECTURE.read_text(encoding="utf-8").split("## The tree")[1].split("## ")[0]
    shown, room = [], ""
    for line in tree.split("```text")[1].split("```")[0].splitlines():
        name = re.match(r"( *)([\w.]+)(/?)", line)
        if not name:
            continue
        if not name[1]:
            room = name[2] if name[3] else ""
            shown += [] if room else [name[2].removesuffix(".py")]
        else:
            shown.append(f"{room}.{name[2]}")
    assert sorted(shown) == MODULES
