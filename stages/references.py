"""What params.yaml refers to: names that lead nowhere or in a circle, paths that no file can have,
settings that no backend trains with.
"""

import os
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from stages import backends, tasks
from stages.entries import VARIANT_KEYS, Run
from stages.errors import nearest
from stages.layers import Params
from stages.settings import Options
from stages.text import chat_templates

NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9]{3}")
VARIANT = re.compile(NAME.pattern + "-[a-z0-9_]+")
PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]*")  # dvc.yaml puts keys into shell commands and paths


def broken_references(params: Params) -> list[str]:
    """A sentence for each fault. A kind of fault is looked for where no fault before it would make
    it meaningless.
    """
    return (
        _misspelt_paths(params)
        or [*_outside(params), *(fault for look in LOOKS for fault in look(params))]
        or [f"`runs.{name}`: {why}" for name in params.runs for why in _refused(params, name)]
        or [
            f"`variants.{name}`: {why}"
            for name in params.variants
            for why in _refused(params, name)
        ]
    )


def _versions(params: Params) -> Iterator[str]:
    """Names that break the numbering, and tasks that there are not."""
    for group in ("synthetic", "sources", "corpora", "runs"):
        for name, item in getattr(params, group).items():
            if not NAME.fullmatch(name):
                yield (
                    f"`{group}.{name}`: a version is named TASK-NNN with three digits, as in "
                    "`typst-002`"
                )
            if item.task not in params.tasks:
                near = nearest(item.task, list(params.tasks))
                yield f"`{group}.{name}.task`: no task `{item.task}`{near}"


def _keys(params: Params) -> Iterator[str]:
    for group in ("bases", "tasks", "presets"):
        for name in getattr(params, group):
            if not PLAIN.fullmatch(name):
                yield (
                    f"`{group}`: {name!r} is no name; write it with lower-case letters, digits, "
                    "`_`, `.` and `-`"
                )


def _tasks(params: Params) -> Iterator[str]:
    """Tasks without code, and those that `compare` lists in vain or not at all."""
    having = {run.task for run in params.runs.values()}
    for task in params.tasks:
        if task not in tasks.names():
            yield (
                f"`tasks.{task}`: there is no folder stages/tasks/{task}; write its corpus.py and "
                "score.py"
            )
        if task in having and task not in params.compare:
            yield f"`compare`: {task} has runs and does not stand in it; add it"
    for task in params.compare:
        if task not in having:
            yield f"`compare`: {task} has no runs that could be compared; take it out"


def _bases(params: Params) -> Iterator[str]:
    texts = [corpus for corpus, item in params.corpora.items() if item.task == "lm"]
    for name, base in params.bases.items():
        if base.corpus not in texts:
            near = nearest(base.corpus, texts)
            yield f"`bases.{name}.corpus`: no corpus of texts `{base.corpus}`{near}"
        for key, of in (
            ("hidden_size", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
        ):
            if (value := getattr(base, key)) % (by := getattr(base, of)):
                yield f"`bases.{name}.{key}`: {value} is no multiple of {of} {by}; correct one"


def _corpora(params: Params) -> Iterator[str]:
    """Corpora of two kinds at once, and files with two that write them."""
    for name, corpus in params.corpora.items():
        if corpus.test_only and corpus.valid_only:
            yield f"`corpora.{name}`: test_only and valid_only at once; a row serves one of the two"
    written = [
        (item.file, name)
        for entries in (params.synthetic, params.sources)
        for name, item in entries.items()
    ]
    for at, (file, name) in enumerate(written):
        for earlier, other in written[:at]:
            if earlier == file:
                yield f"`{name}`: {file} is written by {other} too; give one of them another file"


def _runs(params: Params) -> Iterator[str]:
    """Presets, corpora and models that a run names and that there are not, or are another's."""
    for name, run in params.runs.items():
        for preset in [run.preset] if isinstance(run.preset, str) else run.preset:
            if preset not in params.presets:
                near = nearest(preset, list(params.presets))
                yield f"`runs.{name}.preset`: no preset `{preset}`{near}"
        for key, other in (("corpus", run.corpus), *(("mix", other) for other in run.mix)):
            of = params.corpora.get(other)
            if of is None:
                near = nearest(other, list(params.corpora))
                yield f"`runs.{name}.{key}`: no corpus `{other}`{near}"
            elif of.task != run.task:
                yield (
                    f"`runs.{name}.{key}`: {other} belongs to task {of.task}, the run to {run.task}"
                )
            elif of.test_only or of.valid_only:
                only = "test_only" if of.test_only else "valid_only"
                yield f"`runs.{name}.{key}`: {other} is {only}; train on another one"
        judges = [
            corpus for corpus, of in params.corpora.items() if of.valid_only and of.task == run.task
        ]
        if run.validation and run.validation not in judges:
            near = nearest(run.validation, judges)
            yield f"`runs.{name}.validation`: no valid_only corpus `{run.validation}`{near}"
        for key in ("base", "parent"):
            if why := _no_model(params, run, key):
                yield f"`runs.{name}.{key}`: {why}"


def _variants(params: Params) -> Iterator[str]:
    """Variants of no run, or of another task's, and options of theirs that would train."""
    for name, variant in params.variants.items():
        place = f"`variants.{name}"
        if not VARIANT.fullmatch(name):
            yield (
                f"{place}`: a variant is named TASK-NNN-WORD, as in `typst-002-checked`; give it "
                "such a name"
            )
        for key in variant.model_extra or {}:
            if key in Options.model_fields or key in Run.model_fields:
                yield (
                    f"{place}.{key}`: a variant trains nothing and differs in `generation` alone; "
                    f"set {key} in a run"
                )
            else:
                yield f"{place}.{key}` is no option{nearest(key, VARIANT_KEYS)}"
        if variant.model_of in params.variants:
            yield (
                f"{place}.model_of`: {variant.model_of} is a variant, which has no weights; name "
                "a run"
            )
        elif variant.model_of not in params.runs:
            near = nearest(variant.model_of, list(params.runs))
            yield f"{place}.model_of`: no run `{variant.model_of}`{near}"
        elif (of := params.runs[variant.model_of].task) != variant.task:
            yield (
                f"{place}.model_of`: {variant.model_of} belongs to task {of}, the variant to "
                f"{variant.task}"
            )


def _circles(params: Params) -> Iterator[str]:
    needs = {f"models/{name}": (run.base, run.parent) for name, run in params.runs.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        yield (
            f"`runs`: {circle}: a run that continues from itself; give one of them another base or "
            "parent"
        )


LOOKS = (_versions, _keys, _tasks, _bases, _corpora, _runs, _variants, _circles)


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
    if settings.chat_template not in ("", *(there := chat_templates.names())):
        name = settings.chat_template
        return [f"no chat template `{name}` in stages/text/chat_templates{nearest(name, there)}"]
    if settings.exact == "machine" and not settings.threads:
        return ["exact: machine needs a number of threads, by which the last bits differ; set it"]
    task = (params.runs.get(run) or params.variants[run]).task
    if settings.generation.candidates > 1 and not tasks.has_candidates(task):
        return [
            f"generation.candidates: task {task} has no check by which one of several answers "
            "could be chosen; leave it out"
        ]
    scores_steps = tasks.corpus(task).SCORES_STEPS
    return backends.limits(settings.backend).refuses(settings, scores_steps)


def _no_model(params: Params, run: Run, key: str) -> str:
    """Why `base` or `parent` cannot be started from, or ""."""
    path = getattr(run, key)
    made = {f"models/bases/{name}" for name in params.bases} | {
        f"models/{name}" for name in params.runs
    }
    if (variant := params.variants.get(path.removeprefix("models/"))) is not None:
        return f"{path} has no weights of its own; name models/{variant.model_of}"
    if path not in made and not Path(path).exists():
        return f"no model `{path}`{nearest(path, sorted(made))}"
    grown = params.runs.get(path.removeprefix("models/"))
    if key == "parent" and grown is not None and path != run.base and grown.base != run.base:
        remedy = "use the same base or another parent"
        return f"{path} was grown on {grown.base}, this run's base is {run.base}; {remedy}"
    return ""
