"""configure: params.yaml and the code -> build/config, a file for each stage of all that decides it beside its data.

STAGE/KEY.json holds the stage's settings, resolved and validated; under `code` an MD5 of each file of this project that it
can import and that decides what it writes; under `packages` the versions of the packages that those import. A stage depends
on that one file, so that a change reruns what it can alter and no more; what changed for which stages is told.
report/RUN.json, on which no stage depends, holds who is told of a training while it runs.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages import imports, settings
from stages.params import Params, load_params
from stages.records import CONFIG, stage, write_json

ANSWERING = ("backend", "method", "device", "max_length_tokens", "max_steps_per_example", "threads")
REPORT = "report"
LISTED = 8


class Decision(NamedTuple):
    """What decides one stage: its settings without those that are defaults, and the modules that are imported by name."""

    stage: str
    key: str
    settings: dict[str, Any]
    loads: list[str]


def main() -> None:
    params, found = load_params(), defaultdict[str, list[str]](list)
    stale = set(CONFIG.rglob("*.json"))
    for name, key, options, loads in decisions(params):
        path = CONFIG / name / f"{key}.json"
        modules = [f"stages.{name}", *loads]
        decided = {} if name == REPORT else {"code": imports.code(*modules), "packages": imports.packages(*modules)}
        config = options | decided
        for change in changes(path, config):
            found[change].append(f"{name}@{key}")
        write_json(path, config)
        stale.discard(path)
    for path in stale:
        path.unlink()
    for change, names in sorted(found.items()):
        kinds = Counter(name.partition("@")[0] for name in names)
        told = names if len(names) <= LISTED else [f"{count} × {kind}" for kind, count in kinds.items()]
        print(f"{change}: {', '.join(told)}")


def decisions(params: Params) -> Iterator[Decision]:
    """Of every stage of the graph."""
    for name, synthetic in params.synthetic.items():
        yield Decision("synthesize", name, {"synthetic": chosen(synthetic)}, [f"stages.tasks.{synthetic.task}.synthetic"])
    for name, source in params.sources.items():
        yield Decision("fetch", name, {"source": chosen(source)}, [])
    for name, corpus in params.corpora.items():
        both = {"corpus": chosen(corpus), "split": chosen(params.split)}
        yield Decision("prepare", name, both, [f"stages.tasks.{corpus.task}.corpus"])
    for name, base in params.bases.items():
        yield Decision("initialise", name, {"base": chosen(base)}, [])
    for name in params.runs:
        yield from decisions_of(params, name)
    for task in params.tasks:
        parents = [[name, run.parent] for name, run in params.runs.items() if run.task == task]
        yield Decision("compare", task, {"parents": parents}, [f"stages.tasks.{task}.score"])


def decisions_of(params: Params, name: str) -> Iterator[Decision]:
    """Those of one run: what decides its weights, what it is trained on, how it answers, what it is judged by."""
    run, settled = params.runs[name], params.resolve(name)
    resolved = chosen(settled)
    if resolved.get("method") == "full":
        resolved.pop("lora", None)  # of no use to it: another rank must not retrain it
    report_to, generation = resolved.pop("report_to", []), resolved.pop("generation", {})
    answering = {key: resolved[key] for key in ANSWERING if key in resolved} | {"generation": generation}
    tests = [corpus for corpus, spec in params.corpora.items() if spec.task == run.task and not spec.valid_only]
    validated = {run.validation: 1.0} if run.validation else params.shares(name)
    task, base = {"task": run.task}, {"base": run.base}
    backend = [f"stages.backends.{settled.backend}", "tokenizers"]  # what transformers' tokenizers are made with
    if settled.backend == "pytorch" and (settled.method == "qlora" or settled.optim.startswith("paged")):
        backend.append("bitsandbytes")  # transformers imports it for these

    yield Decision(REPORT, name, {"report_to": report_to}, [])
    yield Decision("mix", name, task | {"seed": settled.seed, "shares": {"train": params.shares(name), "valid": validated}}, [])
    start = task | base | {"corpus": run.corpus, "parent": run.parent}
    yield Decision("train", name, {"run": start, "settings": resolved}, backend)
    yield Decision("predict", name, task | base | {"settings": answering, "tests": tests}, backend)
    judged = task | base | {"corpus": run.corpus, "tests": tests}
    yield Decision("evaluate", name, judged, [f"stages.tasks.{run.task}.score"])


def chosen(options: settings.Strict) -> dict[str, Any]:
    return options.model_dump(exclude_defaults=True)


def changes(path: Path, config: dict[str, Any]) -> list[str]:
    """What differs from the file that is there, one sentence for each setting, file of code and package."""
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
        leaf: found for key, inner in value.items() for leaf, found in flat(inner, f"{place}.{key}" if place else key).items()
    }


if __name__ == "__main__":
    stage(main, __doc__)
