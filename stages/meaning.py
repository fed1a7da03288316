"""What a file of code does, as an MD5: its syntax without what decides no byte that it writes."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stages.errors import UserError

# Fields of syntax nodes that say nothing (`kind`: the u of u"text"; `simple`: no brackets around an
# annotated name).
SILENT = {"type_comment", "kind", "ctx", "simple"}
TYPES = {"typing", "collections.abc"}
PURE = {
    *("len", "list", "max", "min", "repr", "round", "set", "sorted", "str", "sum", "tuple", "type"),
    *("format", "get", "items", "join", "keys", "lower", "most_common", "partition", "replace"),
    *("rpartition", "split", "splitlines", "strip", "total", "upper", "values"),
}
"""Functions and methods that do nothing but return what a sentence says."""


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
    if file.suffix != ".py":
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    text = form(parsed(file), hints=False)
    # Of what is imported for hints, that which is used otherwise too.
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom) and node.module in TYPES:
            for alias in node.names:
                if f"Name(id={alias.asname or alias.name!a})" in text:
                    text += f"{node.module}.{alias.name} as {alias.asname}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


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
        case ast.Expr(value=ast.Call() as call) | ast.Raise(exc=ast.Call() as call) if tells(call):
            cause = form(getattr(node, "cause", None), hints)
            return f"{kind}({form(call.func, hints)},{form(effects(call), hints)},{cause})"
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


def tells(call: ast.Call) -> bool:
    """Whether its arguments are a sentence for a person: no `print` into a file that it names."""
    name, attribute = getattr(call.func, "id", ""), getattr(call.func, "attr", "")
    named = any(keyword.arg == "file" for keyword in call.keywords)
    return (name in ("UserError", "print", "say") or attribute == "say") and not named


def effects(call: ast.Call) -> list[ast.AST]:
    """What is in a sentence that may do more than say something: calls, assignments, awaits."""
    inside = [
        node for part in (call.args, call.keywords) for each in part for node in ast.walk(each)
    ]
    return [
        node
        for node in inside
        if isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom)
        or (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) not in PURE
        )
    ]
