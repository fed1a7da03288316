"""configure: params.yaml -> build/config, each run's settings resolved and validated: a change reaches the runs it alters.

RUN.json holds what decides the weights, RUN.mix.json what is trained on, RUN.predict.json how the run answers and on which
test sets, RUN.run.json what it starts from; RUN.report.json, on which no stage depends, who is told while it trains.
"""

from pathlib import Path

from stages import settings
from stages.records import stage, write_json

CONFIG = Path("build/config")
ANSWERING = ("backend", "method", "device", "max_length_tokens", "max_steps_per_example", "threads")


def main() -> None:
    params = settings.load()
    for name, run in params.runs.items():
        resolved = params.resolve(name).model_dump(exclude_defaults=True)
        if resolved.get("method") == "full":
            resolved.pop("lora", None)  # of no use to it: another rank must not retrain it
        write_json(CONFIG / f"{name}.report.json", {"report_to": resolved.pop("report_to", [])})
        generation = {"generation": resolved.pop("generation", {})}
        shared = {key: resolved[key] for key in ANSWERING if key in resolved}
        tests = [corpus for corpus, spec in params.corpora.items() if spec.task == run.task and not spec.valid_only]
        write_json(CONFIG / f"{name}.json", resolved)
        shares = {"train": params.shares(name), "valid": {run.validation: 1.0} if run.validation else params.shares(name)}
        mix = {"task": run.task, "seed": params.resolve(name).seed, "shares": shares}
        write_json(CONFIG / f"{name}.mix.json", mix)
        write_json(CONFIG / f"{name}.predict.json", {"settings": shared | generation, "tests": tests})
        write_json(CONFIG / f"{name}.run.json", {key: getattr(run, key) for key in ("task", "corpus", "base", "parent")})


if __name__ == "__main__":
    stage(main, __doc__)
