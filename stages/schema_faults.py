"""What pydantic finds wrong, as sentences: the key's path, what is wrong, and what to do."""

from typing import Any

from pydantic import BaseModel, ValidationError

from stages.errors import nearest

TYPES = ("constrained-", "literal[")
DEFAULTS = "defaults"  # the group of params.yaml that has a value for every option


def faults_of(model: type[BaseModel], value: Any, place: str, whole: bool = True) -> list[str]:
    """A sentence for each thing in `value` that the model does not allow.

    place: the dotted key that the value has.   whole: whether what is missing is a fault.
    """
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [
            _sentence(model, item, place)
            for item in error.errors()
            if whole or item["type"] != "missing"
        ]
    return []


def _sentence(model: type[BaseModel], error: Any, place: str) -> str:
    # Where a value may be of several types, pydantic adds the type's name to the path.
    parts = [part for part in map(str, error["loc"]) if not part.startswith(TYPES)]
    where = ".".join(filter(None, [place, *parts]))
    if error["type"] == "extra_forbidden":
        return f"`{where}` is no option{nearest(parts[-1], _options(model, parts[:-1]))}"
    if error["type"] == "missing":
        if place == DEFAULTS:
            return f"`{where}` is missing; every option without a neutral value has one there"
        return f"`{where}` is missing; add it"
    why = f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return f"`{where}`: {why}, not {error['input']!r}; correct the value"


def _options(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that are allowed where `path` leads."""
    for name in path:
        field = model.model_fields.get(name)
        inner = _kinds(field.annotation if field else None)
        if inner:
            model = inner[0]
    return list(model.model_fields)


def _kinds(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for argument in getattr(annotation, "__args__", ()) for kind in _kinds(argument)]
