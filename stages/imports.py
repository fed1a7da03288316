"""Which code and which packages a stage can run: its imports, and those of what it imports.

What a stage loads by name is seen where the loader is named: `tasks.score` loads the score.py of
its task, `backends.load` its backend. Forms of import that cannot be followed are refused.
"""

import ast
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.util import resolve_name
from pathlib import Path

from stages.errors import UserError
from stages.meaning import executed, meaning_md5, parsed

PROJECT = Path(__file__).parents[1]

DECIDES_NOTHING = {
    "stages.command_line": "hands a stage the key that it is called with",
    "stages.settings": "each config holds the values themselves",
    "stages.entries": "as stages.settings",
    "stages.progress_lines": "tells how far long work is",
    "stages.backends.shared.memory": "refuses what memory is too small for, and computes nothing "
    "of a training that fits",
    "stages.backends.shared.progress": "tells how a training goes, and stops one that takes more "
    "memory than it may",
    "stages.backends.shared.kept_tokens": "keeps what rows are tokenised to, in their order",
    "stages.backends.shared.checkpoints": "keeps checkpoints, from which a killed training goes on "
    "to the same bytes",
    "stages.backends.shared.workers": "begins the processes of a training, which `launch` decides",
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
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}  # so that the slow look through all that is installed is not needed
NOT_INSTALLED = "not installed"
LOADERS = {
    "tasks": {
        "corpus",
        "score",
        "synthetic",
        "document",
        "references",
        "candidates",
        "proposals",
    },
    "backends": {"load"},
}
"""The functions of these packages that load a module by its name, by way of contracts.py."""

UNSEEN = {"import_module", "__import__", "exec", "eval"}


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

    task, backend: those of a stage, whose modules it loads by name. Other files that lie beside
    code are taken to be read by it. Raises UserError for a file that is no Python, and for an
    import that cannot be followed.
    """
    left_out = {PROJECT.joinpath(*name.split(".")).with_suffix(".py") for name in DECIDES_NOTHING}
    files, waiting = set[Path](), files_of(module)
    while waiting:
        if (file := waiting.pop()) not in files | left_out:
            files.add(file)
            require_followable(file)
            waiting += imported(file)
            for loader, part in loaded_by_name(file):
                named = (
                    f"tasks.{task}.{part}" if loader == "tasks" else f"backends.{backend}.backend"
                )
                waiting += files_of(f"stages.{named}")
    folders = {file.parent for file in files}
    beside = {path for folder in folders for path in folder.iterdir() if path.is_file()}
    return files | {path for path in beside if path.suffix != ".py" and path.name[0] != "."}


@cache
def loaded_by_name(file: Path) -> set[tuple[str, str]]:
    """("tasks", part of a task) and ("backends", "load"), of the loaders that a file names, whether
    it calls them there or hands them on.
    """
    named, packages = set[tuple[str, str]](), {package: package for package in LOADERS}
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for alias in node.names:
                path = f"{module}.{alias.name}" if module else alias.name
                above, _, name = path.rpartition(".")
                if path.removeprefix("stages.") in LOADERS:
                    packages[alias.asname or name or path] = path.removeprefix("stages.")
                if name in LOADERS.get(package := above.removeprefix("stages."), ()):
                    named.add((package, name))
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Attribute):
            of = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if node.attr in LOADERS.get(package := packages.get(of, ""), ()):
                named.add((package, node.attr))
    return named


@cache
def require_followable(file: Path) -> None:
    """Raise UserError for an import of which it is not seen what it loads: an edit of that would
    rerun nothing.
    """
    if file.suffix != ".py" or file == PROJECT / "stages/contracts.py":
        return
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            what = f"from {node.module or '.'} import *"
        elif getattr(node, "id", "") in UNSEEN or getattr(node, "attr", "") == "import_module":
            what = getattr(node, "id", "import_module")
        else:
            continue
        line = getattr(node, "lineno", 0)
        raise UserError(
            f"{file.relative_to(PROJECT)} line {line}: {what}: which code that runs cannot be "
            "seen, so that an edit there would rerun nothing; import it by its name"
        )
    for module in imported_modules(file):
        name = module.partition(".")[0]
        if name != "stages" and PROJECT.joinpath(name).with_suffix(".py").is_file():
            raise UserError(
                f"{file.relative_to(PROJECT)}: import {name}: {name}.py lies outside stages/, and "
                "an edit there would rerun nothing; move it into stages/"
            )


@cache
def imported(file: Path) -> list[Path]:
    """Files of this project that a file imports, with the packages around them."""
    return [found for module in imported_modules(file) for found in files_of(module)]


@cache
def imported_modules(file: Path) -> list[str]:
    """Names of what a file imports when it runs, and of what may be a module in what it imports
    from. None of a file that is no Python.
    """
    if file.suffix != ".py":
        return []
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
