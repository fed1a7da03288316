"""Cleaning: only readable lines and undamaged text enter a corpus."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages.corpus.examples import BadLine, Example
from stages.corpus.split import as_seen
from stages.entries import Corpus
from stages.errors import UserError
from stages.files import digest
from stages.records import Message, Row, answer_text, learned_turns

# U+FFFD, the control characters (category Cc) except tab and line ends, and what Unicode says is no
# character.
UNSOUND = re.compile(
    "[\ufffd\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\ufdd0-\ufdef"
    + "".join(chr(plane * 2**16 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
LISTED_LINES = 20  # unreadable lines that an error names
LISTED_KEYS = 20  # keys without a use that are named
PROGRESS_EVERY_RECORDS = 100_000  # records between two progress messages


class Report:
    """The number of records read, and the number dropped, by reason.

    passed_over: the number that the corpus's options exclude, by reason.
    forms: how many records have which form.   unused: how many have a key without a use, by key.
    bad: the first unreadable lines.   tells: whether it says on the terminal how far it is.
    """

    def __init__(self, path: Path, tells: bool = True) -> None:
        self.path, self.tells = path, tells
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self.forms: Counter[str] = Counter()
        self.unused: Counter[str] = Counter()
        self.bad: list[BadLine] = []

    def add(self, later: "Report") -> None:
        """Count what was read of a later part of the file."""
        before = self.read // PROGRESS_EVERY_RECORDS
        self.read += later.read
        for told in range(before + 1, self.read // PROGRESS_EVERY_RECORDS + 1):
            print(f"{self.path}: {told * PROGRESS_EVERY_RECORDS:,} records read", flush=True)
        for counts, others in (
            (self.dropped, later.dropped),
            (self.passed_over, later.passed_over),
            (self.forms, later.forms),
            (self.unused, later.unused),
        ):
            counts.update(others)
        self.bad += later.bad[: LISTED_LINES - len(self.bad)]

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def pass_over(self, reason: str) -> None:
        """Count a row that the corpus's options exclude; max_drop_fraction does not apply to it."""
        self.passed_over[reason] += 1

    def require_acceptable(self, corpus: Corpus) -> None:
        """Raise UserError where the file cannot be accepted as a corpus.

        That is a file without records, with more dropped rows than max_drop_fraction allows, with
        unreadable lines if `malformed` is "stop", or with unused keys if `unknown_keys` is.
        """
        if self.unused and corpus.unknown_keys == "stop":
            raise UserError(
                f"{self.path}: {self.not_used()}; take them out, or set `unknown_keys: tell` for "
                "this corpus"
            )
        if self.dropped["malformed"] and corpus.malformed == "stop":
            remedy = (
                "correct these lines, or leave them out: `malformed: drop` for the corpus in "
                "params.yaml, --malformed drop with `new`"
            )
            if self.dropped["malformed"] == self.read:
                remedy = (
                    "no record can be read; where its keys or columns have other names, say which "
                    "is which: `columns:` for the corpus in params.yaml, --columns with `new`"
                )
            raise UserError("\n".join([*self.unreadable(), remedy]))
        if not self.read:
            raise UserError(f"{self.path}: no records in it; a corpus has at least one line")
        share = self.dropped.total() / self.read
        if share > corpus.max_drop_fraction:
            raise UserError(
                f"{self.path}: cleaning drops {self.dropped.total()} of {self.read} rows "
                f"({share:.0%}: {self.reasons()}), more than max_drop_fraction "
                f"{corpus.max_drop_fraction:.0%}; "
                "mend the file, or raise max_drop_fraction: for the corpus in params.yaml, with "
                "--max-drop-fraction for `new`"
            )

    def not_used(self) -> str:
        """A phrase of the keys without a use, the most frequent ones, and how many records have
        each.
        """
        named = sorted(self.unused.most_common(LISTED_KEYS))
        counts = ", ".join(f"{key[:80]} ({count:,})" for key, count in named)
        more = len(self.unused) - len(named)
        counts += f", … and {more:,} more" if more else ""
        return f"keys of the records that nothing here has a use for: {counts}"

    def reasons(self) -> str:
        """A phrase of why rows were dropped, and how many for each reason."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())

    def unreadable(self) -> list[str]:
        """A sentence for each of the first unreadable lines, one for lines with the same fault, and
        the number of the others.
        """
        alike = dict[str, list[int]]()
        for item in self.bad:
            alike.setdefault(item.reason, []).append(item.line)
        shown = [
            f"{self.path} line {first}: {reason}"
            + (f" (the same in {', '.join(map(str, others))})" if others else "")
            for reason, (first, *others) in alike.items()
        ]
        more = self.dropped["malformed"] - len(self.bad)
        return [*shown, f"… and {more} more"] if more else shown


def readable(lines: Iterable[Example | BadLine], report: Report) -> Iterator[Example]:
    """The examples that a task read; the report counts unreadable lines and damaged texts."""
    for item in lines:
        report.read += 1
        if report.tells and report.read % PROGRESS_EVERY_RECORDS == 0:
            print(f"{report.path}: {report.read:,} records read", flush=True)
        if isinstance(item, Example):
            if fault := _unsound(item):
                item = BadLine(item.line, fault)
            else:
                report.forms[item.form] += 1
                report.unused.update(item.unused)
                yield item
                continue
        report.drop("malformed")
        if len(report.bad) < LISTED_LINES:
            report.bad.append(item)


def digests(example: Example) -> tuple[int, int]:
    """Hashes of all that is said, without and with the labels of steps."""
    said = example.said()
    mark = digest(*said)
    return mark, digest(*said, str(example.labels)) if example.labels else mark


class Selection:
    """What a corpus's options admit of its examples, which come in their order."""

    def __init__(self, corpus: Corpus, report: Report) -> None:
        self.corpus, self.report, self.kept = corpus, report, 0

    def admits(self, fault: str, reason: str) -> bool:
        """Whether the next example is one of the corpus; else the report counts why not.

        fault, reason: `refused` and `excluded` of it. Raises UserError for a fault.
        """
        if fault:
            raise UserError(fault)
        if not reason and self.corpus.max_samples and self.kept == self.corpus.max_samples:
            reason = "beyond max_samples"
        if reason:
            self.report.pass_over(reason)
            return False
        self.kept += 1
        return True


def select_examples(
    examples: Iterable[Example], corpus: Corpus, report: Report
) -> Iterator[Example]:
    """The examples that the corpus's options admit: its categories, max_characters and max_samples.

    Raises UserError where a record may only be tested on and the corpus is also for training.
    """
    selection = Selection(corpus, report)
    for example in examples:
        if selection.admits(refused(example, corpus), excluded(example, corpus)):
            yield example


def refused(example: Example, corpus: Corpus) -> str:
    """A sentence for a record that may only be tested on, of a corpus that is also for training."""
    if not example.test_only or corpus.test_only:
        return ""
    return (
        f"{corpus.file} line {example.line}: {example.test_only}; "
        "set `test_only: true` for this corpus in params.yaml, or give `new` --test-only"
    )


def excluded(example: Example, corpus: Corpus) -> str:
    """Why the corpus's options exclude an example, whatever the others are."""
    if corpus.categories and example.category not in corpus.categories:
        return "of another category"
    longest = corpus.max_characters
    if longest and len(example.source) + len(example.target) > longest:
        return "longer than max_characters"
    return ""


def with_instruction(example: Example, instruction: str) -> Example:
    """The example with the corpus's instruction in place of the task's; "" changes nothing.

    Of a record that words its own question, what the system says stays; where the user speaks
    several times, the instruction stands before the first words.
    """
    if not instruction:
        return example
    turns = [place for place, message in enumerate(example.prompt) if message["role"] == "user"]
    first = turns[0] if turns else 0
    asked = example.prompt[first]["content"] if len(turns) > 1 else example.source
    message: Message = {"role": "user", "content": f"{instruction}\n{asked}"}
    return replace(example, prompt=(*example.prompt[:first], message, *example.prompt[first + 1 :]))


def question_digest(row: Row) -> int:
    """A hash of all that precedes a row's answer; of its whole text, where it has no answer.

    A training row with the question of a held-out row leaks it, whatever its answer.
    """
    return question_digests(row)[-1]


def question_digests(row: Row) -> list[int]:
    """A hash of all that precedes each answer of a row that is learned, as it is seen; the last
    answer is that which is tested.
    """
    if "completions" in row:
        return [digest(as_seen(row["prompt"]))]
    if "messages" not in row:
        return [digest(as_seen(row["text"]))]
    said = [as_seen(answer_text(message)) for message in row["messages"]]
    return [digest(*said[:turn]) for turn in learned_turns(row["messages"])]


def _texts_in(value: Any) -> Iterator[str]:
    """All texts of a JSON value, and the keys of its objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts_in([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_in(item)


def _unsound(example: Example) -> str:
    """What is damaged in the example's texts, as a phrase for an error; "" where nothing is."""
    messages = [*example.prompt, *([example.answer] if example.answer else [])]
    own = (example.source, example.target, example.category, *example.steps)
    for text in (*own, *_texts_in([messages, example.tools])):
        # All that is unsound beside U+FFFD is not printable, which is seen in a tenth of the time.
        if text.isprintable() and "\ufffd" not in text:
            continue
        if found := UNSOUND.search(text):
            if found[0] == "\ufffd":
                return (
                    "U+FFFD in it: the text was decoded wrongly before; "
                    "go back to the original file"
                )
            kind = "control" if ord(found[0]) < 0xA0 else "no"
            return f"{kind} character U+{ord(found[0]):04X} in it; remove it"
    return ""
