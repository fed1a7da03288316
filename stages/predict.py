"""predict: a run, its untuned base and every test set of the task -> data/predictions/RUN.jsonl.

Rows that the same weights have answered before are read back from .scratch, so that a new version costs the chain only
its new rows.
"""

from functools import cache
from pathlib import Path

from rich.progress import Progress

from stages import backends, settings
from stages.backends import reuse, scratch
from stages.records import Prediction, Row, rows, stage, write_lines


def main(run: str) -> None:
    spec = settings.spec(Path("build/config", f"{run}.run.json"))
    chosen, corpora = settings.answering(Path("build/config", f"{run}.predict.json"))
    tests = {corpus: rows(Path("data/prepared", spec.task, "test", f"{corpus}.jsonl")) for corpus in corpora}
    with Progress() as bar:
        models = {"run": f"models/{run}", "base": spec.base}
        write_lines(
            Path("data/predictions", f"{run}.jsonl"),
            (record for by, model in models.items() for record in answered(by, model, spec.base, chosen, tests, bar)),
        )


def answered(
    by: str, model: str, base: str, chosen: settings.Settings, tests: dict[str, list[Row]], bar: Progress
) -> list[Prediction]:
    """What a model makes of every row of every test set; it is loaded when the first row that is new to it comes."""
    backend = backends.load(chosen.backend)
    loaded = cache(lambda: backend.Answerer(model, base, chosen))
    code = Path(__file__).parent
    known = reuse.Answers(
        scratch.fingerprint(Path(model), Path(base), code / "backends", code / "text"), chosen.model_dump_json()
    )
    task = bar.add_task(model, total=sum(map(len, tests.values())))
    records = []
    for corpus, wanted in tests.items():
        made = known.complete(wanted, lambda new: loaded().predict(new, lambda count: bar.advance(task, count)))
        records += [Prediction(row["id"], corpus, by=by, **answer._asdict()) for row, answer in zip(wanted, made, strict=True)]
    bar.update(task, completed=len(records))
    return records


if __name__ == "__main__":
    stage(main, __doc__)
