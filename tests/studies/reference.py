"""docs/reference.md from the docstrings of the public API.

``python tests/studies/reference.py --write``. The sources are read, not imported: the page is the
same with every version of Python.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

import cosi_linebkg_plugin

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference.md"
PACKAGE = Path(cosi_linebkg_plugin.__file__).parent

#: The sections of the page: title, what to say first (a module: its docstring), and names by module
#: ("*": every public function and class of the module).
SECTIONS = (
    (
        "From the spectrum to the template",
        "Imported from `cosi_linebkg_plugin` itself.",
        {
            "plugin": ["LineBackgroundLike"],
            "model.build": ["background_model"],
            "fit.result": ["LineBackgroundFit"],
            "template.template": ["BackgroundTemplate"],
            "lines.search": ["find_lines"],
            "lines.catalogue": ["instrumental_lines"],
            "model.priors": ["default_priors"],
        },
    ),
    (
        "Event lists",
        "`from cosi_linebkg_plugin import bin_events`; the others are in "
        "`cosi_linebkg_plugin.events.binning`. Rules and selections: [event lists](events.md).",
        {
            "events.binning": ["bin_events", "bin_event_files", "BinnedEvents", "BinningReport"],
            "events.options": ["BinningOptions"],
        },
    ),
    (
        "Functions for astromodels",
        "Imported from `cosi_linebkg_plugin` itself. `background_model` builds models of these and "
        "of astromodels' own; a model that was saved loads in any process that has imported "
        "`cosi_linebkg_plugin.model.functions`.",
        {
            "model.functions": [
                "TailedGaussian",
                "LinearGaussian",
                "LinearTailedGaussian",
                "PowerlawPolynomial",
            ]
        },
    ),
    (
        "Figures",
        "Nothing is shown or saved unless you do.",
        {
            "show.spectrum": ["*"],
            "show.template": ["*"],
            "show.posterior": ["*"],
            "show.figure": ["save_figure"],
        },
    ),
    ("Comparison with observed counts", "", {"template.comparison": ["*"]}),
    (
        "Consumers",
        "Methods of a template call these; what each consumer demands: [consumers](consumers.md).",
        {
            "consumers.cosilike": ["*"],
            "consumers.cosipy04": ["*"],
            "consumers.imaging": ["*"],
            "consumers.constraint": ["NormConstraint"],
        },
    ),
    (
        "Goodness of fit, posteriors, sidebands",
        "",
        {
            "fit.toys": ["with_toys", "toy_p_value"],
            "fit.posterior": ["posterior_predictive", "PosteriorPredictive"],
            "template.kinematics": ["suggest_sidebands", "SidebandProposal"],
        },
    ),
    ("Simulated data", "app.simulation", {"app.simulation": ["simulate", "Simulation"]}),
    (
        "What these return",
        "",
        {
            "fit.numbers": ["FittedParameter", "RangeCounts"],
            "spectrum.axis": ["EnergySpectrum"],
            "template.norms": ["NormFit"],
            "lines.search": ["LineSearch", "FoundLine"],
            "lines.catalogue": ["IdentifiedLine", "Match", "CatalogueLine"],
        },
    ),
    ("Exceptions and warnings", "", {"errors": ["*"]}),
)
HEADER = """\
# Reference

Made from the docstrings by `python tests/studies/reference.py --write`. Energies are in keV unless
they carry a unit; "counts" are counts, not densities. What the pieces are for:
[concepts](concepts.md).
"""
#: Docstring sections whose entries are "name : type" with an indented description.
LISTS = (
    "Parameters",
    "Attributes",
    "Parameters and attributes",
    "Returns",
    "Raises",
    "Warns",
    "See Also",
)
TEXTS = ("Notes", "References")
#: Public by name, but of use inside the package alone.
INTERNAL = {"forbidden_norm"}


# --- reading the sources --------------------------------------------------------------------------


@cache
def module(name: str) -> tuple[ast.Module, str]:
    text = (PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    return ast.parse(text), text


def definitions(name: str, wanted: list[str]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    tree, _ = module(name)
    found = {x.name: x for x in tree.body if isinstance(x, ast.FunctionDef | ast.ClassDef)}
    if wanted == ["*"]:
        wanted = [x for x in found if not x.startswith("_") and x not in INTERNAL]
    for key in wanted:
        yield found[key]


def default(node: ast.expr, name: str) -> str:
    """A default value as written; a plain constant of the package as its value."""
    tree, text = module(name)
    if isinstance(node, ast.Name):
        for x in tree.body:
            names = [ast.unparse(t) for t in x.targets] if isinstance(x, ast.Assign) else []
            if node.id in names and isinstance(x.value, ast.Constant):
                return ast.get_source_segment(text, x.value) or ""
            inside = isinstance(x, ast.ImportFrom) and x.level and x.module
            if inside and node.id in [alias.name for alias in x.names]:
                package = name.split(".")[: -x.level]
                return default(node, ".".join([*package, x.module]))
        return node.id
    return ast.get_source_segment(text, node) or ""


def signature(node: ast.FunctionDef, name: str, method: bool) -> str:
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(positional) - len(a.defaults)) + list(a.defaults)
    parts = [
        x.arg if d is None else f"{x.arg}={default(d, name)}"
        for x, d in zip(positional, defaults, strict=True)
    ]
    if method and not any(ast.unparse(d) == "staticmethod" for d in node.decorator_list):
        parts = parts[1:]
    if a.vararg:
        parts.append(f"*{a.vararg.arg}")
    elif a.kwonlyargs:
        parts.append("*")
    for x, d in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        parts.append(x.arg if d is None else f"{x.arg}={default(d, name)}")
    if a.kwarg:
        parts.append(f"**{a.kwarg.arg}")
    return parts_in_lines(parts)


def parts_in_lines(parts: list[str]) -> str:
    text = ", ".join(parts)
    return f"({text})" if len(text) < 76 else "(\n    " + ",\n    ".join(parts) + ",\n)"


def decorators(node: ast.FunctionDef) -> set[str]:
    return {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}


# --- docstrings -----------------------------------------------------------------------------------


def sections(docstring: str) -> dict[str, list[str]]:
    """Lines by section; "" is what stands before the first one."""
    out: dict[str, list[str]] = {"": []}
    current = ""
    lines = docstring.splitlines()
    i = 0
    while i < len(lines):
        underlined = i + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[i + 1].strip())
        if underlined and not lines[i].startswith(" "):
            current = lines[i].strip()
            if current not in (*LISTS, *TEXTS):
                raise ValueError(f"unknown docstring section {current!r}")
            out[current] = []
            i += 2
            continue
        out[current].append(lines[i])
        i += 1
    return out


def prose(lines: list[str]) -> str:
    """Text as Markdown: code in single backticks, literal blocks in fences."""
    out: list[str] = []
    block: list[str] | None = None
    for line in [*lines, "\0"]:
        if block is not None:
            if line.startswith("    ") or not line.strip():
                block.append(line[4:])
                continue
            while block and not block[-1].strip():
                block.pop()
            while block and not block[0].strip():
                block.pop(0)
            out += ["```python", *block, "```", ""]
            block = None
        if line == "\0":
            break
        if line.rstrip().endswith("::"):
            block = []
            text = line.rstrip(" :").replace("``", "`")
            if text:
                out += [f"{text}:", ""]
            continue
        out.append(line.replace("``", "`"))
    return "\n".join(out).strip()


def entries(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Heads at the left margin, and the indented lines below each."""
    head, body = "", []
    for line in lines:
        if line and not line.startswith(" "):
            if head:
                yield head, body
            head, body = line, []
        elif head:
            body.append(line[4:])
    if head:
        yield head, body


def listed(title: str, lines: list[str]) -> str:
    out = []
    for head, body in entries(lines):
        name, colon, kind = head.partition(" : ")
        if title == "See Also":
            start, body = f"`{name}`", [kind, *body]
        elif colon:
            names = ", ".join(f"`{x.strip()}`" for x in name.split(","))
            kind = kind.replace("``", "`")
            start = f"{names} {kind}" if re.fullmatch(r"\([^()]*\)", kind) else f"{names} ({kind})"
        elif title != "Returns":
            start = ", ".join(f"`{x.strip()}`" for x in name.split(","))
        else:
            start = name.replace("``", "`")
        text = prose(body)
        text = re.sub(r"\n(?=.)", "\n  ", text)
        out.append(f"- {start}: {text}" if text else f"- {start}")
    return f"**{title}**\n\n" + "\n".join(out)


def astromodels_function(docstring: str) -> str:
    """The YAML docstring of an astromodels function as a table."""
    data = yaml.safe_load(docstring)
    rows = ["| parameter | | start | limits |", "|---|---|---|---|"]
    for name, p in data["parameters"].items():
        ends = [f"{word} {p[key]}" for word, key in (("from", "min"), ("to", "max")) if key in p]
        limits = " ".join(ends)
        fixed = ", fixed" if p.get("fix") in (True, "yes") else ""
        rows.append(f"| `{name}` | {p['desc']}{fixed} | {p['initial value']} | {limits} |")
    formula = data["latex"].strip().strip("$").strip()
    return f"{data['description'].strip()}:\n\n$$ {formula} $$\n\n" + "\n".join(rows)


def description(docstring: str) -> str:
    parts = sections(docstring)
    out = [prose(parts.pop(""))]
    for title, lines in parts.items():
        text = listed(title, lines) if title in LISTS else f"**{title}**\n\n{prose(lines)}"
        out.append(text)
    return "\n\n".join(x for x in out if x)


# --- the page -------------------------------------------------------------------------------------


def docstring_of(node: ast.FunctionDef | ast.ClassDef, where: str) -> str:
    text = ast.get_docstring(node)
    if not text:
        raise ValueError(f"{where} has no docstring")
    return text


def function(node: ast.FunctionDef, name: str, level: int, owner: str = "") -> str:
    title = f"{owner}.{node.name}" if owner else node.name
    kinds = decorators(node)
    text = description(docstring_of(node, f"{name}.{title}"))
    hashes = "#" * level
    if kinds & {"property", "cached_property"}:
        return f"{hashes} `{title}`\n\n{text}"
    arguments = signature(node, name, bool(owner))
    if arguments == "()":
        return f"{hashes} `{title}()`\n\n{text}"
    return f"{hashes} `{title}()`\n\n```python\n{title}{arguments}\n```\n\n{text}"


def inherited(node: ast.ClassDef, name: str) -> Iterator[tuple[ast.ClassDef, str]]:
    """The bases of a class that are the package's own, and their modules."""
    wanted = {ast.unparse(base) for base in node.bases}
    for x in module(name)[0].body:
        if isinstance(x, ast.ImportFrom) and x.level and x.module:
            package = name.split(".")[: -x.level]
            for key in wanted & {alias.name for alias in x.names}:
                where = ".".join([*package, x.module])
                yield next(definitions(where, [key])), where


def public_class(node: ast.ClassDef, name: str) -> str:
    doc = docstring_of(node, f"{name}.{node.name}")
    out = [f"### `{node.name}`"]
    if any(ast.unparse(b) == "Function1D" for b in node.bases):
        return f"{out[0]}\n\n{astromodels_function(doc)}"
    bases = list(inherited(node, name))
    owners = [(node, name), *bases]
    methods = [(x, m) for c, m in owners for x in c.body if isinstance(x, ast.FunctionDef)]
    init = [x for x, _ in methods if x.name == "__init__"]
    if init and "Parameters\n" in doc:
        out.append(f"```python\n{node.name}{signature(init[0], name, True)}\n```")
    out.append(description(doc))
    out += [
        listed("Attributes", sections(docstring_of(base, where)).get("Attributes", []))
        for base, where in bases
    ]
    simple, others = [], []
    for x, where in methods:
        if x.name.startswith("_"):
            continue
        text = description(docstring_of(x, f"{where}.{node.name}.{x.name}"))
        if decorators(x) & {"property", "cached_property"} and "**" not in text:
            simple.append(f"- `{x.name}`: " + text.replace("\n", "\n  "))
        else:
            others.append(function(x, where, 4, node.name))
    if simple:
        out.append("**Properties**\n\n" + "\n".join(simple))
    return "\n\n".join([*out, *others])


def build() -> str:
    """The page as text."""
    out, contents = [], []
    for title, words, names in SECTIONS:
        if words in names:  # the module speaks for itself
            words = prose((ast.get_docstring(module(words)[0]) or "").splitlines())
        out.append(f"## {title}" + (f"\n\n{words}" if words else ""))
        linked = []
        for name, wanted in names.items():
            nodes = list(definitions(name, wanted))
            if not words.startswith(("Imported", "`from")):
                out.append(f"`from cosi_linebkg_plugin.{name} import ...`")
            for node in nodes:
                is_class = isinstance(node, ast.ClassDef)
                out.append(public_class(node, name) if is_class else function(node, name, 3))
                linked.append(f"[`{node.name}`](#{node.name.lower()})")
        contents.append(f"* {title}: {', '.join(linked)}")
    return "\n\n".join([HEADER.strip(), "\n".join(contents), *out]) + "\n"


def main() -> None:
    page = build()
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
