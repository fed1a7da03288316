"""params.yaml read and checked: every fault is told at once, before anything runs."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.entries import RUN_KEYS, Run
from stages.errors import UserError, nearest
from stages.layers import Params
from stages.references import broken_references
from stages.schema_faults import DEFAULTS, faults_of
from stages.settings import Options

PARAMS = Path("params.yaml")
MERGED = (
    "keep one, and see docs/together.md#two-branches-that-added-a-version where both sides have "
    "added a version of one number"
)


def load_params(path: Path = PARAMS) -> Params:
    """The whole file, validated: unknown keys, wrong types and references that lead nowhere are
    told all at once.

    Raises UserError with a line per fault: the key's path, what is wrong, and the nearest key there
    is.
    """
    if path.is_fifo():
        raise UserError(f"{path}: a pipe; write a file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this at the top of the repository") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}; correct it") from None
    return validate(text, path)


def validate(text: str, path: Path) -> Params:
    """`load_params` of what the file `path` holds, or shall hold."""
    raw = _parsed(text, path)
    faults = [
        f"`{key}` is empty, which DVC cannot read; write `{key}: {{}}`"
        for key, value in raw.items()
        if value is None
    ] or faults_of(Params, raw, "")
    if not faults:
        layers = {DEFAULTS: raw["defaults"]}
        layers |= {
            f"{group}.{name}": layer or {}
            for group in ("presets", "tasks")
            for name, layer in raw[group].items()
        }
        layers |= {f"runs.{name}": _without(run, RUN_KEYS) for name, run in raw["runs"].items()}
        layers |= {
            f"variants.{name}": {"generation": variant["generation"]}
            for name, variant in raw.get("variants", {}).items()
        }
        faults = [
            fault
            for place, layer in layers.items()
            # Presets, tasks and runs say what differs from the defaults, which are whole.
            for fault in faults_of(Options, layer, place, whole=place == DEFAULTS)
        ]
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    params = Params.model_validate(raw)
    if faults := broken_references(params):
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return params


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """The document as DVC reads it: by YAML 1.2, in which 5e-05 is a number, and no key twice."""
    if conflict := re.search(r"^<{7} ", text, re.MULTILINE):
        number = 1 + text.count("\n", 0, conflict.start())
        raise UserError(f"{path} line {number}: a merge has left both sides here; {MERGED}")
    try:
        raw = YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        is_version = re.match(r'found duplicate key "[a-z]+-[0-9]{3}"', error.problem or "")
        remedy = MERGED if is_version else "correct it"
        raise UserError(f"{path}{line}: not YAML: {error.problem}; {remedy}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}; correct it") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: its top level is no map of keys, such as `defaults:`; write them")
    return raw


def entry(entries: dict[str, Any], name: str, group: str) -> Any:
    """One entry of a map in params.yaml; raises UserError that names the nearest there is."""
    if name not in entries:
        raise UserError(f"params.yaml: no `{name}` under `{group}`{nearest(name, list(entries))}")
    return entries[name]


def run_entry(params: Params, name: str) -> Run:
    """One of `runs`; raises UserError, which says of a variant whose weights it has."""
    if name in params.variants:
        of = params.variants[name].model_of
        raise UserError(
            f"{name}: has no weights of its own; it answers with those of {of}, so name {of}"
        )
    run: Run = entry(params.runs, name, "runs")
    return run


def scored_task(params: Params, name: str) -> str:
    """Of a run or a variant of one; raises UserError where there is neither."""
    variant = params.variants.get(name)
    return variant.task if variant else run_entry(params, name).task


def _without(layer: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key not in keys}
