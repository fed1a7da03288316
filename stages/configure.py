"""configure: params.yaml and the code -> build/config, a file for each stage of all that decides it
beside its data.

STAGE/KEY.json holds the stage's settings, resolved and validated; under `code` an MD5 of each file
of this project that it can import and that decides what it writes; under `packages` the versions of
the packages that those import. A stage depends on that one file, so that a change reruns what it
can alter and no more; what changed for which stages is told. conduct/RUN.json, on which no stage
depends, holds who is told of a training while it runs and how many threads it has.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages import command_line, imports, settings
from stages.files import as_json, write_json
from stages.layers import Params, answering
from stages.params import load_params
from stages.stage_config import CONDUCT, CONFIG

LISTED = 8


class Decision(NamedTuple):
    """What decides one stage: those of its settings that are not neutral, the task and the backend
    whose code it loads by name, and packages that it imports indirectly.
    """

    stage: str
    key: str
    settings: dict[str, Any]
    task: str = ""
    backend: str = ""
    packages: tuple[str, ...] = ()


def main() -> None:
    params, found = load_params(), defaultdict[str, list[str]](list)
    stale = set(CONFIG.rglob("*.json"))
    for decision in decisions(params):
        path = CONFIG / decision.stage / f"{decision.key}.json"
        config = decision.settings | code_and_packages(decision)
        for change in changes(path, config):
            found[change].append(f"{decision.stage}@{decision.key}")
        # Most of a thousand runs are as they were, and a file that is written waits for the disk.
        if not path.is_file() or path.read_bytes() != as_json(config).encode():
            write_json(path, config)
        stale.discard(path)
    for path in stale:
        path.unlink()
    for change, names in sorted(found.items()):
        kinds = Counter(name.partition("@")[0] for name in names)
        where = (
            names
            if len(names) <= LISTED
            else [f"{count} × {kind}" for kind, count in kinds.items()]
        )
        print(f"{change}: {', '.join(where)}")


def code_and_packages(decision: Decision) -> dict[str, Any]:
    """Nothing for what is no stage."""
    if decision.stage == CONDUCT:
        return {}
    files = imports.closure(f"stages.{decision.stage}", decision.task, decision.backend)
    return {"code": imports.code(files), "packages": imports.packages(files, *decision.packages)}


def decisions(params: Params) -> Iterator[Decision]:
    """Of every stage of the graph."""
    for name, synthetic in params.synthetic.items():
        yield Decision(
            "synthesize", name, {"synthetic": without_neutral_values(synthetic)}, synthetic.task
        )
    for name, source in params.sources.items():
        yield Decision("fetch", name, {"source": without_neutral_values(source)})
    for name, corpus in params.corpora.items():
        yield Decision(
            "prepare",
            name,
            {
                "corpus": without_neutral_values(corpus),
                "split": without_neutral_values(params.split),
            },
            corpus.task,
        )
    for name, base in params.bases.items():
        yield Decision("initialise", name, {"base": without_neutral_values(base)})
    for name in params.runs:
        yield from decisions_of(params, name)
    for name in params.variants:
        yield from decisions_of_answers(params, name)
    for task in params.compare:
        parents = [[name, run.parent] for name, run in params.runs.items() if run.task == task]
        variants = [
            [name, f"models/{variant.model_of}"]
            for name, variant in params.variants.items()
            if variant.task == task
        ]
        compared = {"parents": parents} | ({"variants": variants} if variants else {})
        yield Decision("compare", task, compared, task)


def decisions_of(params: Params, name: str) -> Iterator[Decision]:
    """Those of one run: what decides its weights and what it is trained on, and those of its
    answers.
    """
    run, settled = params.runs[name], params.resolve(name)
    training = {
        key: value
        for key, value in without_neutral_values(settled).items()
        if key in settings.Settings.model_fields
    }
    if settled.method == "full":
        training.pop("lora", None)  # of no use to it: another rank must not retrain it
    del training["save_total_limit"]
    training.pop("launch", None)
    if settled.exact == "portable":  # any number of them gives the same bytes
        training.pop("threads", None)
    validated = {run.validation: 1.0} if run.validation else params.shares(name)
    task = {"task": run.task}
    yield Decision(
        "mix",
        name,
        task
        | {"seed": settled.seed, "shares": {"train": params.shares(name), "valid": validated}}
        | {"tests": tests_of(params, run.task)},
    )
    start = task | {"base": run.base, "corpus": run.corpus, "parent": run.parent}
    trains = {"run": start, "shares": params.shares(name), "settings": training}
    yield Decision("train", name, trains, run.task, settled.backend, imported_indirectly(settled))
    yield from decisions_of_answers(params, name)


def decisions_of_answers(params: Params, name: str) -> Iterator[Decision]:
    """Of a run or a variant of one: how it answers, and what it is judged by."""
    of = params.variants[name].model_of if name in params.variants else name
    run, settled = params.runs[of], params.resolve(name)
    answers = without_neutral_values(answering(settled))
    if settled.exact == "portable":
        answers.pop("threads", None)
    conduct = {
        "report_to": settled.report_to,
        "threads": settled.threads,
        "save_total_limit": settled.save_total_limit,
        "launch": settled.launch.model_dump(),
    }
    yield Decision(CONDUCT, name, conduct)
    shown = {"task": run.task, "base": run.base, "tests": tests_of(params, run.task)}
    # The code of a task decides answers where its check chooses among them.
    checks = run.task if settled.generation.candidates > 1 else ""
    yield Decision(
        "predict",
        name,
        shown | {"model": f"models/{of}", "settings": answers},
        checks,
        settled.backend,
        imported_indirectly(settled),
    )
    yield Decision("evaluate", name, shown | {"corpus": run.corpus}, run.task)


def tests_of(params: Params, task: str) -> list[str]:
    return [
        corpus
        for corpus, spec in params.corpora.items()
        if spec.task == task and not spec.valid_only
    ]


def imported_indirectly(settled: settings.Options) -> tuple[str, ...]:
    """What transformers' tokenizers are made with, and what renders their chat templates; and what
    transformers imports for some options.
    """
    packages: tuple[str, ...] = ("tokenizers", "jinja2")
    paged = settled.method == "qlora" or settled.optim.startswith("paged")
    return (*packages, "bitsandbytes") if settled.backend == "pytorch" and paged else packages


def without_neutral_values(options: settings.Strict) -> dict[str, Any]:
    """All values but those that mean off, none or all where their default means that too: an option
    that is added later leaves the others' config as it was. A default that means anything stays, so
    that an edit of it in the code is seen.
    """
    kept = {}
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, settings.Strict):
            value = without_neutral_values(value)
        if value or field.is_required() or field.get_default():
            kept[name] = value
    return kept


def changes(path: Path, config: dict[str, Any]) -> list[str]:
    """What differs from the file that is there, one sentence for each setting, file of code and
    package.
    """
    if not path.is_file():
        return ["new"]
    was, now = flat(json.loads(path.read_text(encoding="utf-8"))), flat(config)
    differs = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    return [sentence(key, was.get(key), now.get(key)) for key in differs]


def sentence(key: str, was: Any, now: Any) -> str:
    """was, now: None where the file has no such key."""
    kind, _, name = key.partition(".")
    if kind == "code":
        return f"{name} has changed"
    if kind == "packages":
        return f"{name} {was or 'not used'} → {now or 'not used'}"
    return f"{key} {'default' if was is None else was} → {'default' if now is None else now}"


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """{dotted key: value} of nested maps."""
    if not isinstance(value, dict):
        return {place: value}
    return {
        leaf: found
        for key, inner in value.items()
        for leaf, found in flat(inner, f"{place}.{key}" if place else key).items()
    }


if __name__ == "__main__":
    command_line.run(main, __doc__)
