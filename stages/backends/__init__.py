"""What trains and answers: a module for each backend, all with `train`, `save` and `Answerer`."""

from importlib import import_module
from typing import Any

from stages.errors import UserError


def load(name: str) -> Any:
    """The backend's module. Raises UserError where the package that it stands on is not installed."""
    try:
        return import_module(f"stages.backends.{name}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"backend {name}: the package {error.name} is not installed here; run `pip install -r requirements.txt`, or set "
            "another backend"
        ) from None
