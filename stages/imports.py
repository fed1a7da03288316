"""Which code of this project a stage can run: its imports, and those of what it imports.

What a module loads by its name, with import_module, cannot be seen here; `configure` knows it.
"""

import ast
import hashlib
import tokenize
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from stages.errors import UserError

PROJECT = Path(__file__).parents[1]
BEFORE_A_STATEMENT = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}


def code(*modules: str) -> dict[str, str]:
    """{file of this project: the MD5 of what it does} of these modules and all that they import, wherever in them, and so on.

    Raises UserError for a file that is no Python.
    """
    files, waiting = set[Path](), [file for module in modules for file in files_of(module)]
    while waiting:
        if (file := waiting.pop()) not in files:
            files.add(file)
            waiting += imported(file)
    return {file.relative_to(PROJECT).as_posix(): meaning_md5(file) for file in files}


@cache
def imported(file: Path) -> list[Path]:
    """Files of this project that a file imports, with the packages around them."""
    package = ".".join(file.relative_to(PROJECT).parent.parts)
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{file} line {error.lineno}: {error.msg}; correct the code") from None
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            modules += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return [file for module in modules for file in files_of(module)]


def files_of(module: str) -> list[Path]:
    """The file of a module of this project and the packages around it, which an import runs too; none of another's."""
    parts = module.split(".")
    above = [PROJECT.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    paths = [*above, PROJECT.joinpath(*parts).with_suffix(".py")]
    return [path for path in paths if path.is_file()] if parts[0] == "stages" else []


@cache
def meaning_md5(file: Path) -> str:
    """Of a file's lines without comments, docstrings and blank lines, which can change no result."""
    lines = dict(enumerate(file.read_text(encoding="utf-8").split("\n"), start=1))
    with file.open("rb") as stream:
        tokens = list(tokenize.tokenize(stream.readline))
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row] = lines[row][:column].rstrip()
        if token.type == tokenize.NL and not lines[row].strip():
            del lines[row]
        if token.type == tokenize.STRING and before.type in BEFORE_A_STATEMENT and after.type == tokenize.NEWLINE:
            for part in range(row, token.end[0] + 1):
                del lines[part]
    return hashlib.md5("\n".join(lines.values()).encode(), usedforsecurity=False).hexdigest()
