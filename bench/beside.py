"""A run of one's own beside what could be had without it, on the run's test rows: the untuned
base, the base with examples in its prompt, the input as it is, and another program.

    python -m bench.beside typst-002
    python -m bench.beside typst-002 --shots 5 --program "pandoc -f latex -t typst" --around '$'
    python -m bench.beside gec-001 --rows 200

Needs a finished `dvc repro` of the run. Examples are the first --shots rows of its training rows, in
every prompt the same, as earlier turns. A program gets a row's source on its standard input, with
--around before and behind it, which is taken off what it writes, too; what it refuses counts as
wrong. Intervals are of 1,000 resamplings of the rows (95 %)."""

import argparse
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from stages import backends, params, stage_config, tasks
from stages.records import Prediction, Row, read_predictions, read_rows
from stages.scoring import bootstrap
from stages.settings import Answering


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.beside",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("run")
    parser.add_argument("--shots", type=int, default=0, help="examples in the base's prompt (0)")
    parser.add_argument("--program", help="what reads a source and writes an answer")
    parser.add_argument("--around", default="", help="text around each source, for the program")
    parser.add_argument("--rows", type=int, help="the first so many test rows (all)")
    options = parser.parse_args()
    config = stage_config.load("predict", options.run)
    task = config["task"]
    tests = {
        (corpus, row["id"]): row
        for corpus in config["tests"]
        for row in read_rows(Path("data/prepared", task, "test", f"{corpus}.jsonl"))
    }
    keys = [*tests][: options.rows]
    rows = [tests[key] for key in keys]
    made = read_predictions(Path("data/predictions", f"{options.run}.jsonl"))
    of_model = {
        by: {(record.corpus, record.id): record for record in made if record.by == by}
        for by in ("run", "base")
    }
    score = tasks.score(task)

    def tell(name: str, answers: list[Prediction]) -> None:
        statistics = score.statistics(rows, answers)
        low, high = bootstrap.interval(statistics, score.headline)
        found = float(score.headline(statistics.sum(axis=0)))
        print(f"| {name} | {found:.3f} | {low:.3f} to {high:.3f} |", flush=True)

    def answered(reply: Callable[[Row], str]) -> list[Prediction]:
        return [Prediction(row["id"], "", reply(row), 0.0, 1) for row in rows]

    print(f"{len(rows)} test rows\n\n| | score | 95 % interval |\n|---|---|---|")
    tell("the input as it is", answered(lambda row: row["source"]))
    if options.program:
        command = shlex.split(options.program)
        written = converted(command, [row["source"] for row in rows], options.around)
        texts = iter(written)
        tell(Path(command[0]).name, answered(lambda _: next(texts)))
    tell("untuned base", [of_model["base"][key] for key in keys])
    if options.shots:
        settings = Answering.model_validate(config["settings"] | {"threads": 0})
        examples = read_rows(Path("data/mixed", options.run, "train.jsonl"))[: options.shots]
        turns = [message for example in examples for message in example["messages"]]
        asked: list[Row] = [{**row, "messages": [*turns, *row["messages"][:-1]]} for row in rows]
        backend = backends.load(settings.backend, settings.exact)
        base = config["base"]
        replies = iter(backend.answerer(base, base, settings).respond(asked))
        tell(f"base with {options.shots} examples", answered(lambda _: next(replies)))
    for run in chain(options.run):
        made = read_predictions(Path("data/predictions", f"{run}.jsonl"))
        own = {(record.corpus, record.id): record for record in made if record.by == "run"}
        if all(key in own for key in keys):
            tell(run, [own[key] for key in keys])


def chain(run: str) -> list[str]:
    """The run and its parents, the first of them first."""
    parent = params.load_params().runs[run].parent.removeprefix("models/")
    return [*(chain(parent) if parent in params.load_params().runs else []), run]


def converted(command: list[str], sources: list[str], around: str) -> list[str]:
    """What a program makes of each source. Ends where it makes nothing of any: it is not there, or
    of a version that has not what it is asked for.
    """
    try:
        calls = [
            subprocess.run(
                command,
                input=f"{around}{source}{around}",
                capture_output=True,
                text=True,
                timeout=60,
            )
            for source in sources
        ]
    except OSError as error:
        raise SystemExit(f"{command[0]}: {error.strerror}") from None
    if all(call.returncode for call in calls):
        said = calls[0].stderr.strip()
        raise SystemExit(
            f"{shlex.join(command)}: failed on each of {len(calls)} rows; it says: {said}"
        )
    return [call.stdout.strip().removeprefix(around).removesuffix(around).strip() for call in calls]


if __name__ == "__main__":
    main()
