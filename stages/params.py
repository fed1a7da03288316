"""params.yaml read and checked: layers become a run's options; every fault is told at once, before
anything runs.
"""

import os
import re
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages import backends, tasks
from stages.errors import UserError, nearest
from stages.schema_faults import DEFAULTS, faults_of
from stages.settings import (
    RUN_KEYS,
    Answering,
    Base,
    Corpus,
    Options,
    Run,
    Source,
    Split,
    Strict,
    Synthetic,
)

PARAMS = Path("params.yaml")
NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9]{3}")
PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]*")  # dvc.yaml puts keys into shell commands and paths


class Params(Strict):
    allow_outside: bool = Field(
        False, description="whether corpora and models may lie outside the repository"
    )
    split: Split
    base: str = Field("", description="what the first run of a task starts from; `new` enters it")
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    compare: list[str] = Field(description="the tasks that have runs")
    synthetic: dict[str, Synthetic]
    sources: dict[str, Source] = Field({}, description="data sets of the hub that `fetch` reads")
    bases: dict[str, Base]
    corpora: dict[str, Corpus]
    runs: dict[str, Run]

    def options(self, presets: Iterable[str], *changes: dict[str, Any]) -> Options:
        """defaults < presets, in the order they are named < changes, in their order."""
        named = [self.presets[name] for name in presets]
        return Options.model_validate(merge(self.defaults, *named, *changes))

    def resolve(self, run: str) -> Options:
        """defaults < presets < task < the run's own."""
        spec = self.runs[run]
        presets = [spec.preset] if isinstance(spec.preset, str) else spec.preset
        return self.options(presets, self.tasks[spec.task], spec.model_extra or {})

    def shares(self, run: str) -> dict[str, float]:
        """How often an epoch of a run has each row of each corpus.

        The run's own corpus once, also where an earlier run had it; what earlier runs were trained
        on, mixed corpora too, as `replay` says; those of `mix` as it says.
        """
        spec = self.runs[run]
        shares, before = {spec.corpus: 1.0}, self._parent(spec)
        while spec.replay and before:
            for corpus in (before.corpus, *before.mix):
                shares.setdefault(corpus, spec.replay)
            before = self._parent(before)
        return shares | spec.mix

    def _parent(self, run: Run) -> Run | None:
        """The run that a run continues from, where that is one of its task."""
        parent = self.runs.get(run.parent.removeprefix("models/"))
        return parent if parent and parent.task == run.task else None


def answering(options: Options) -> Answering:
    """What a run answers with: in an evaluation and in `apply` the same."""
    return Answering.model_validate(options.model_dump(include=set(Answering.model_fields)))


def load_params(path: Path = PARAMS) -> Params:
    """The whole file, validated: unknown keys, wrong types and references that lead nowhere are
    told all at once.

    Raises UserError with a line per fault: the key's path, what is wrong, and the nearest key there
    is.
    """
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
        faults = [
            fault
            for place, layer in layers.items()
            # Presets, tasks and runs say what differs from the defaults, which are whole.
            for fault in faults_of(Options, layer, place, whole=place == DEFAULTS)
        ]
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    params = Params.model_validate(raw)
    if faults := _misspelt_paths(params) or _outside(params) + _dangling(params):
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return params


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """The document as DVC reads it: by YAML 1.2, in which 5e-05 is a number, and no key twice."""
    try:
        raw = YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML: {error.problem}; correct it") from None
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


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Each layer over those before it, maps inside them key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


def _without(layer: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key not in keys}


def _dangling(params: Params) -> list[str]:
    """References between the maps that lead nowhere or in a circle, and names that break the
    numbering.
    """
    faults = []
    for group, entries in (
        ("synthetic", params.synthetic),
        ("sources", params.sources),
        ("corpora", params.corpora),
        ("runs", params.runs),
    ):
        for name, item in entries.items():
            if not NAME.fullmatch(name):
                faults.append(
                    f"`{group}.{name}`: a version is named TASK-NNN with three digits, as in "
                    f"`typst-002`"
                )
            if item.task not in params.tasks:
                faults.append(
                    f"`{group}.{name}.task`: no task "
                    f"`{item.task}`{nearest(item.task, list(params.tasks))}"
                )
    faults += [
        f"`{group}`: {name!r} is no name; write it with lower-case letters, digits, `_`, `.` and "
        f"`-`"
        for group in ("bases", "tasks", "presets")
        for name in getattr(params, group)
        if not PLAIN.fullmatch(name)
    ]
    faults += [
        f"`corpora.{name}`: test_only and valid_only at once; a row serves one of the two"
        for name, corpus in params.corpora.items()
        if corpus.test_only and corpus.valid_only
    ]
    for task in params.tasks:
        if task not in tasks.names():
            faults.append(
                f"`tasks.{task}`: there is no folder stages/tasks/{task}; write its corpus.py and "
                f"score.py"
            )
    having = {run.task for run in params.runs.values()}
    faults += [
        f"`compare`: {task} has runs and does not stand in it; add it"
        for task in params.tasks
        if task in having and task not in params.compare
    ]
    faults += [
        f"`compare`: {task} has no runs that could be compared; take it out"
        for task in params.compare
        if task not in having
    ]
    for name, base in params.bases.items():
        texts = [corpus for corpus, item in params.corpora.items() if item.task == "lm"]
        if base.corpus not in texts:
            faults.append(
                f"`bases.{name}.corpus`: no corpus of texts "
                f"`{base.corpus}`{nearest(base.corpus, texts)}"
            )
        faults += [
            f"`bases.{name}.{key}`: {value} is no multiple of {of} {getattr(base, of)}; correct one"
            for key, of in (
                ("hidden_size", "num_attention_heads"),
                ("num_attention_heads", "num_key_value_heads"),
            )
            if (value := getattr(base, key)) % getattr(base, of)
        ]
    written = [(item.file, name) for name, item in params.synthetic.items()]
    written += [(item.file, name) for name, item in params.sources.items()]
    faults += [
        f"`{name}`: {file} is written by {other} too; give one of them another file"
        for at, (file, name) in enumerate(written)
        for earlier, other in written[:at]
        if earlier == file
    ]
    for name, run in params.runs.items():
        presets = [run.preset] if isinstance(run.preset, str) else run.preset
        faults += [
            f"`runs.{name}.preset`: no preset `{preset}`{nearest(preset, list(params.presets))}"
            for preset in presets
            if preset not in params.presets
        ]
        for key, other in (("corpus", run.corpus), *(("mix", other) for other in run.mix)):
            of = params.corpora.get(other)
            if of is None:
                faults.append(
                    f"`runs.{name}.{key}`: no corpus "
                    f"`{other}`{nearest(other, list(params.corpora))}"
                )
            elif of.task != run.task:
                faults.append(
                    f"`runs.{name}.{key}`: {other} belongs to task {of.task}, the run to {run.task}"
                )
            elif of.test_only or of.valid_only:
                only = "test_only" if of.test_only else "valid_only"
                faults.append(f"`runs.{name}.{key}`: {other} is {only}; train on another one")
        judges = [
            corpus for corpus, of in params.corpora.items() if of.valid_only and of.task == run.task
        ]
        if run.validation and run.validation not in judges:
            faults.append(
                f"`runs.{name}.validation`: no valid_only corpus "
                f"`{run.validation}`{nearest(run.validation, judges)}"
            )
        faults += [
            f"`runs.{name}.{key}`: {why}"
            for key in ("base", "parent")
            if (why := _no_model(params, run, key))
        ]
    try:
        TopologicalSorter(
            {f"models/{name}": (run.base, run.parent) for name, run in params.runs.items()}
        ).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        faults.append(
            f"`runs`: {circle}: a run that continues from itself; give one of them another base or "
            f"parent"
        )
    if not faults:
        for name in params.runs:
            faults += [f"`runs.{name}`: {why}" for why in _refused(params, name)]
    return faults


def _paths(params: Params) -> list[tuple[str, str]]:
    """(dotted key, path) of every file and model that is named."""
    files = [(f"{group}.{name}.file", item.file) for group in ("synthetic", "sources", "corpora")
             for name, item in getattr(params, group).items()]  # fmt: skip
    models = [
        (f"runs.{name}.{key}", getattr(run, key))
        for name, run in params.runs.items()
        for key in ("base", "parent")
    ]
    return [*files, *models, *([("base", params.base)] if params.base else [])]


def _misspelt_paths(params: Params) -> list[str]:
    """Paths that no file can have, and second ways to write one: to DVC they are another file."""
    faults = []
    for place, path in _paths(params):
        if not path.isprintable() or max(map(len, os.fsencode(path).split(b"/"))) > 255:
            faults.append(f"`{place}`: {path[:40]!r} is no name that a file can have; correct it")
        elif not path or path != os.path.normpath(path) or path == ".":
            remedy = f"write it as {os.path.normpath(path)}" if path.strip("./") else "name a file"
            faults.append(f"`{place}`: {path!r}: {remedy}")
    return faults


def _outside(params: Params) -> list[str]:
    """Files and models that lie elsewhere: another clone would not have them, and a stage could
    overwrite them.
    """
    if params.allow_outside:
        return []
    here = Path.cwd().resolve()
    return [
        f"`{place}`: {path} lies outside the repository; copy it in, or set `allow_outside: true`"
        for place, path in _paths(params)
        if not Path(path).resolve().is_relative_to(here)
    ]


def _refused(params: Params, run: str) -> list[str]:
    """Why no backend trains a run with its settings."""
    settings = params.resolve(run)
    if settings.backend not in (there := backends.names()):
        return [f"no backend `{settings.backend}`{nearest(settings.backend, there)}"]
    if settings.exact == "machine" and not settings.threads:
        return ["exact: machine needs a number of threads, by which the last bits differ; set it"]
    scores_steps = tasks.corpus(params.runs[run].task).SCORES_STEPS
    return backends.limits(settings.backend).refuses(settings, scores_steps)


def _no_model(params: Params, run: Run, key: str) -> str:
    """Why `base` or `parent` cannot be started from, or ""."""
    path = getattr(run, key)
    made = {f"models/bases/{name}" for name in params.bases} | {
        f"models/{name}" for name in params.runs
    }
    if path not in made and not Path(path).exists():
        return f"no model `{path}`{nearest(path, sorted(made))}"
    grown = params.runs.get(path.removeprefix("models/"))
    if key == "parent" and grown is not None and path != run.base and grown.base != run.base:
        remedy = "use the same base or another parent"
        return f"{path} was grown on {grown.base}, this run's base is {run.base}; {remedy}"
    return ""
