"""Which code and which packages a stage can run: its imports, and those of what it imports.

What a stage loads by name is seen in its calls: `tasks.score(…)` loads the score.py of its task,
`backends.load(…)` its backend.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from stages.errors import UserError

PROJECT = Path(__file__).parents[1]

DECIDES_NOTHING = {
    "stages.command_line": "hands a stage the key that it is called with",
    "stages.settings": "each config holds the values themselves, and a default never changes "
    "(tests/test_settings.py)",
    "stages.progress_lines": "tells how far long work is",
    "stages.backends.shared.memory": "refuses what memory is too small for, and computes nothing "
    "of a training that fits",
    "stages.backends.shared.progress": "tells how a training goes, and stops one that takes more "
    "memory than it may",
    "stages.backends.shared.checkpoints": "keeps checkpoints, from which a killed training goes on "
    "to the same bytes",
}
"""Modules that decide no byte of what a stage writes (tests/test_tells_and_keeps.py), and why: they
rerun nothing.
"""

COMPUTES_NOTHING = {
    "typer": "reads the command line",
    "rich": "draws tables and bars on the screen",
    "psutil": "looks at processes and memory",
    "huggingface_hub": "brings files by the hash of their commit",
}
"""Packages whose version decides no byte of what a stage writes, and why."""

DISTRIBUTIONS = {
    "sklearn": "scikit-learn"
}  # so that the slow look through all that is installed is not needed
NOT_INSTALLED = "not installed"
PARTS = {
    "corpus",
    "score",
    "synthetic",
    "document",
}  # of a task: functions of stages/tasks/__init__.py

# Fields of syntax nodes that say nothing (`kind`: the u of u"text"; `simple`: no brackets around an
# annotated name).
SILENT = {"type_comment", "kind", "ctx", "simple"}
TYPES = {"typing", "collections.abc"}
TOLD = {"UserError", "print", "say"}


def code(files: Iterable[Path]) -> dict[str, str]:
    """{file of this project: the MD5 of what it does}."""
    return {file.relative_to(PROJECT).as_posix(): meaning_md5(file) for file in files}


def packages(files: Iterable[Path], *others: str) -> dict[str, str]:
    """{distribution: version} of the packages that these files of this project import.

    others: modules that they import by way of a package.   A package that is not installed is there
    too, with NOT_INSTALLED as its version.
    """
    found = {module for file in files for module in imported_modules(file)} | {*others}
    names = {module.partition(".")[0] for module in found}
    foreign = names - {"stages"} - sys.stdlib_module_names - COMPUTES_NOTHING.keys()
    return dict(installed(name) for name in sorted(foreign))


def closure(module: str, task: str = "", backend: str = "") -> set[Path]:
    """Files of this project that a module can run, without those that decide nothing and what only
    they import.

    task, backend: those of a stage, whose modules it loads by name. Raises UserError for a file
    that is no Python.
    """
    left_out = {PROJECT.joinpath(*name.split(".")).with_suffix(".py") for name in DECIDES_NOTHING}
    files, waiting = set[Path](), files_of(module)
    while waiting:
        if (file := waiting.pop()) not in files | left_out:
            files.add(file)
            waiting += imported(file)
            for loader, part in loaded_by_name(file):
                named = (
                    f"tasks.{task}.{part}" if loader == "tasks" else f"backends.{backend}.backend"
                )
                waiting += files_of(f"stages.{named}")
    return files


@cache
def loaded_by_name(file: Path) -> set[tuple[str, str]]:
    """("tasks", part of a task) and ("backends", "load") of the calls in a file."""
    calls = [node.func for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)]
    return {
        (call.value.id, call.attr)
        for call in calls
        if isinstance(call, ast.Attribute)
        and isinstance(call.value, ast.Name)
        and (
            (call.value.id == "tasks" and call.attr in PARTS)
            or (call.value.id, call.attr) == ("backends", "load")
        )
    }


@cache
def imported(file: Path) -> list[Path]:
    """Files of this project that a file imports, with the packages around them."""
    return [found for module in imported_modules(file) for found in files_of(module)]


@cache
def imported_modules(file: Path) -> list[str]:
    """Names of what a file imports when it runs, and of what may be a module in what it imports
    from.
    """
    package = ".".join(file.relative_to(PROJECT).parent.parts)
    modules = []
    for node in executed(parsed(file).body):
        if isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            modules += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return modules


def files_of(module: str) -> list[Path]:
    """The file of a module of this project and the packages around it, which an import runs too;
    none of another's.
    """
    parts = module.split(".")
    above = [PROJECT.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    paths = [*above, PROJECT.joinpath(*parts).with_suffix(".py")]
    return [path for path in paths if path.is_file()] if parts[0] == "stages" else []


@cache
def installed(name: str) -> tuple[str, str]:
    """(distribution, version without its local part, such as +cpu) of a top-level module."""
    distribution = DISTRIBUTIONS.get(name, name.replace("_", "-"))
    try:
        return distribution, metadata.version(distribution).partition("+")[0]
    except metadata.PackageNotFoundError:
        for other in metadata.packages_distributions().get(name, []):
            return other, metadata.version(other).partition("+")[0]
    return distribution, NOT_INSTALLED


@cache
def parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{file} line {error.lineno}: {error.msg}; correct the code") from None


@cache
def meaning_md5(file: Path) -> str:
    """Of a file's syntax tree without what decides no byte that a stage writes: the same on every
    Python from 3.11 on.

    Left out are comments and formatting, docstrings, hints and imports for them, and sentences that
    a person is told. A decorator may read the hints of its function, and dataclasses, NamedTuples
    and pydantic read those of a class: they stay.
    """
    return hashlib.md5(form(parsed(file), hints=False).encode(), usedforsecurity=False).hexdigest()


def form(node: Any, hints: bool) -> str:
    """A syntax node, a list of them or a plain value as text.

    hints: whether annotations belong to it. Not ast.dump, which writes other text on another
    Python; for the same reason ascii, not repr: which characters are printable depends on the
    version of Unicode.
    """
    if isinstance(node, list):
        return f"[{','.join([form(each, hints) for each in statements(node)])}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    kind, left_out, inner = type(node).__name__, SILENT, dict[str, bool]()
    match node:
        case ast.Constant(value=value):
            return f"{type(value).__name__} {value!a}"
        case ast.JoinedStr(values=parts):  # Python 3.12 ends some with an empty string
            written = [part for part in parts if getattr(part, "value", None) != ""]
            return f"JoinedStr({form(written, hints)})"
        case ast.AnnAssign(target=target, value=ast.AST() as value) if not hints:
            return form(ast.Assign([target], value), hints)
        case ast.arg() | ast.AnnAssign() if not hints:
            left_out = SILENT | {"annotation"}
        case ast.Call() if only_tells(node):
            left_out = SILENT | {"args", "keywords"}
        case ast.ClassDef():
            inner = {"body": True}
        case (
            ast.FunctionDef(decorator_list=decorators)
            | ast.AsyncFunctionDef(decorator_list=decorators)
        ):
            inner = {"body": False, "args": bool(decorators), "returns": bool(decorators)}
            left_out = SILENT if decorators else SILENT | {"returns"}
    fields = [(name, getattr(node, name, None)) for name in node._fields if name not in left_out]
    said = [
        f"{name}={form(value, inner.get(name, hints))}"
        for name, value in fields
        if value is not None and value != []
    ]
    return f"{kind}({','.join(said)})"


def statements(nodes: list[Any]) -> Iterator[Any]:
    """Without strings that stand alone, such as docstrings, and without what is imported for
    hints.
    """
    for node in nodes:
        if is_for_hints(node):
            yield from statements(node.orelse)
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            continue
        elif not (isinstance(node, ast.ImportFrom) and not node.level and node.module in TYPES):
            yield node


def executed(nodes: list[Any]) -> Iterator[Any]:
    """These statements and all inside them, those of functions too."""
    for node in statements(nodes):
        yield node
        for inner in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from executed(getattr(node, inner, []))


def is_for_hints(node: Any) -> bool:
    """Whether it is an `if TYPE_CHECKING:`."""
    test = node.test if isinstance(node, ast.If) else None
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def only_tells(call: ast.Call) -> bool:
    """Whether its arguments are a sentence for a person: no `print` into a file that it names, no
    assignment inside of it. Functions that it calls are taken to have no effects.
    """
    name, attribute = getattr(call.func, "id", ""), getattr(call.func, "attr", "")
    if name not in TOLD and attribute not in TOLD - {"print"}:
        return False
    effects = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    named = any(keyword.arg == "file" for keyword in call.keywords)
    return not named and not any(isinstance(inside, effects) for inside in ast.walk(call))
