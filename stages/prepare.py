"""prepare: one raw corpus version -> train, valid and test rows, and a report of every row that was
dropped.
"""

import gc
import json
from array import array
from collections import Counter
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from stages import command_line, stage_config, tasks
from stages.corpus import clean, duplicates, split
from stages.corpus.candidates import chosen
from stages.entries import Corpus, Split
from stages.files import atomic_write, write_json

PARTS: tuple[split.Part, ...] = ("train", "valid", "test")


def main(name: str) -> None:
    config = stage_config.load("prepare", name)
    corpus, shares = Corpus.model_validate(config["corpus"]), Split.model_validate(config["split"])
    task = tasks.corpus(corpus.task)

    report = clean.Report(Path(corpus.file))
    counts = {part: Counter[str]() for part in PARTS}  # of rows, by category
    # The questions of the training rows in one array, and where those of each row begin.
    held_out, asked, begins = array("Q"), array("Q"), array("q")
    with ExitStack() as stack:
        if gc.isenabled():  # no row is in a cycle; to look for one took 0.6 s of 200,000 rows
            gc.disable()
            stack.callback(gc.enable)
        paths = {part: Path("data/prepared", corpus.task, part, f"{name}.jsonl") for part in PARTS}
        files = {part: stack.enter_context(atomic_write(path)) for part, path in paths.items()}
        # Training rows wait on the disk until all that is held out is known: the file is read once,
        # and no row stays in memory.
        waiting = stack.enter_context(TemporaryFile(dir=paths["train"].parent))
        found = chosen(task, corpus, shares, report, paths["train"].parent)
        for content, is_chosen in found:
            for part, of_part in content.rows.items():
                rows = of_part.where(is_chosen)
                counts[part].update(map(content.categories.__getitem__, rows.of.tolist()))
                (waiting if part == "train" else files[part].buffer).write(rows.lines.data)
                ends = np.cumsum(rows.asked)
                if part == "train":
                    begins.frombytes((len(asked) + ends - rows.asked).tobytes())
                    asked.frombytes(rows.questions.tobytes())
                else:
                    held_out.frombytes(rows.questions[ends - 1].tobytes())
        leaks = duplicates.isin_sorted(asked, np.unique(held_out))
        of_rows = np.logical_or.reduceat(leaks, begins) if begins else leaks
        waiting.seek(0)
        for line, is_leaking in zip(waiting, of_rows, strict=True):
            if is_leaking:
                report.drop("asked in a held-out row")
                counts["train"][json.loads(line)["category"]] -= 1
        waiting.seek(0)
        files["train"].buffer.writelines(compress(waiting, ~of_rows))
        report.require_acceptable(corpus)

    write_json(
        Path("metrics/prepare", f"{name}.json"),
        {
            "read": report.read,
            "dropped": dict(report.dropped),
            "passed_over": dict(report.passed_over),
            "forms": dict(report.forms),
            "unused_keys": dict(sorted(report.unused.most_common(clean.LISTED_KEYS))),
            "rows": {part: count.total() for part, count in counts.items()},
            "train_categories": dict(sorted((+counts["train"]).items())),
        },
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
