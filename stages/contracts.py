"""Modules that are loaded by their name, each held against the protocol that says what it has."""

from importlib import import_module
from typing import Any

from stages.errors import UserError


def load(module: str, contract: type) -> Any:
    """A module of this project. Raises UserError where it is not there, or lacks a part.

    contract: the Protocol that it fulfils, whose package says what each part is.
    """
    file = f"{module.replace('.', '/')}.py"
    where = f"{contract.__module__.replace('.', '/')}/__init__.py says what it has"
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(f"{file}: no such file; {where}") from None
    if absent := [name for name in vars(contract) if name[0] != "_" and not hasattr(loaded, name)]:
        raise UserError(f"{file}: no {', '.join(absent)}; {where}")
    return loaded
