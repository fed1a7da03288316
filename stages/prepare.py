"""prepare: one raw corpus version -> train, valid and test rows, and a report of every row that was
dropped.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from stages import command_line, stage_config, tasks
from stages.corpus import augment, clean, split
from stages.corpus.examples import Example
from stages.corpus.near_duplicates import drop_near_duplicates
from stages.files import atomic_write, digest, write_json
from stages.records import Row
from stages.settings import Corpus, Split

PARTS: tuple[split.Part, ...] = ("train", "valid", "test")


def main(name: str) -> None:
    config = stage_config.load("prepare", name)
    corpus, shares = Corpus.model_validate(config["corpus"]), Split.model_validate(config["split"])
    task = tasks.corpus(corpus.task)

    report, counts = clean.Report(Path(corpus.file)), Counter[tuple[str, str]]()
    # The questions of the training rows in one array, and where those of each row begin.
    held_out, asked, begins = array("Q"), array("Q"), array("q")
    with ExitStack() as stack:
        paths = {part: Path("data/prepared", corpus.task, part, f"{name}.jsonl") for part in PARTS}
        files = {part: stack.enter_context(atomic_write(path)) for part, path in paths.items()}
        # Training rows wait on the disk until all that is held out is known: the file is read once,
        # and no row stays in memory.
        waiting = stack.enter_context(
            TemporaryFile("w+", encoding="utf-8", newline="\n", dir=paths["train"].parent)
        )
        for part, row in divided(task, corpus, shares, report, paths["train"].parent):
            counts[part, row["category"]] += 1
            (waiting if part == "train" else files[part]).write(
                json.dumps(row, ensure_ascii=False) + "\n"
            )
            if part == "train":
                begins.append(len(asked))
                asked.extend(clean.question_digests(row))
            else:
                held_out.append(clean.question_digest(row))
        waiting.seek(0)
        leaks = clean.isin_sorted(asked, np.unique(held_out))
        of_rows = np.logical_or.reduceat(leaks, begins) if begins else leaks
        for line, leaking in zip(waiting, of_rows, strict=True):
            if leaking:
                report.drop("asked in a held-out row")
                counts["train", json.loads(line)["category"]] -= 1
            else:
                files["train"].write(line)
        report.require_acceptable(corpus)

    totals = {
        part: sum(count for (where, _), count in counts.items() if where == part) for part in PARTS
    }
    categories = {
        category: count for (part, category), count in sorted((+counts).items()) if part == "train"
    }
    write_json(
        Path("metrics/prepare", f"{name}.json"),
        {
            "read": report.read,
            "dropped": dict(report.dropped),
            "passed_over": dict(report.passed_over),
            "forms": dict(report.forms),
            "unused_keys": dict(sorted(report.unused.most_common(clean.LISTED_KEYS))),
            "rows": totals,
            "train_categories": categories,
        },
    )


def divided(
    task: tasks.Corpus, corpus: Corpus, shares: Split, report: clean.Report, folder: Path
) -> Iterator[tuple[split.Part, Row]]:
    """(part, prepared row) of every example that survives cleaning, in the file's order; noisy
    copies are for training.

    folder: for what waits on the disk.
    """
    read = task.read(report.path, corpus.columns)
    examples = clean.deduplicate(clean.readable(read, report), report)
    if corpus.near_duplicates:
        examples = drop_near_duplicates(examples, corpus.near_duplicates, report, folder)
    for example in clean.select_examples(examples, corpus, report):
        part = split.part_of(corpus, task.group_key(example), shares)
        yield part, prepared(task, corpus, example)
        if corpus.augment and part == "train":
            for copy in augment.copies(example, corpus.augment):
                yield part, prepared(task, corpus, copy)


def prepared(task: tasks.Corpus, corpus: Corpus, example: Example) -> Row:
    identity = f"{digest(*example.said()):016x}"
    shown = task.show(clean.with_instruction(example, corpus.instruction))
    return {"id": identity, "category": example.category, "source": example.source, **shown}


if __name__ == "__main__":
    command_line.run(main, __doc__)
