"""A file looked at as the corpus that it would be, before anything is written."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from stages import entries, tasks
from stages.corpus import clean, duplicates, split
from stages.errors import UserError
from stages.layers import Params
from stages.records import Row, RowFile

REFERENCES = 20_000
"""As many are looked at by themselves, at about a millisecond each."""


def named_columns(given: list[str]) -> dict[str, str]:
    """COLUMN=KEY, …, also with commas between them. Raises UserError."""
    named = dict[str, str]()
    for pair in (pair for text in given for pair in text.split(",")):
        column, equals, key = pair.partition("=")
        if not (equals and column.strip() and key.strip()):
            raise UserError(f"--columns {pair}: write COLUMN=KEY, such as question=instruction")
        named[column.strip()] = key.strip()
    return named


class Found(NamedTuple):
    """What was read of a file.   parts: its rows by the part of the split.   tests: the hashes of
    what its test rows ask.   kinds: a conversation of each sequence of turns.   references: the
    first rows of a task whose references may be ones that cannot be scored.
    """

    report: clean.Report
    parts: Counter[str]
    tests: set[int]
    kinds: dict[str, Row]
    references: list[Row]


def read_corpus(params: Params, corpus: entries.Corpus) -> Found:
    """Read the whole file as `prepare` will, before anything is written; raises UserError as it
    would.
    """
    reader, report = tasks.corpus(corpus.task), clean.Report(Path(corpus.file))
    found = Found(report, Counter(), set(), {}, [])
    has_references = tasks.references(corpus.task) is not None
    read = reader.read(report.path, corpus.columns)
    examples = duplicates.deduplicate(clean.readable(read, report), report, clean.digests)
    for example in clean.select_examples(examples, corpus, report):
        part = split.part_of(corpus, reader.group_key(example), params.split)
        found.parts[part] += 1
        where = f"{corpus.file} line {example.line}"
        row: Row = {"id": where, "category": "", "source": "", **reader.show(example)}
        if part == "test":
            found.tests.add(clean.question_digest(row))
        if has_references and len(found.references) < REFERENCES:
            found.references.append(row)
        if "messages" in row:
            turns = [
                [*sorted(message.keys() | {message["role"]}), "think>" in message["content"]]
                for message in row["messages"]
            ]
            found.kinds.setdefault(str((turns, "tools" in row)), row)
    report.require_acceptable(corpus)
    return found


def same_content(params: Params, pointer: Path) -> list[str]:
    """The corpora whose file has the bytes of that whose .dvc file this is, by DVC's hashes."""
    return [
        name
        for name, corpus in params.corpora.items()
        if (other := Path(f"{corpus.file}.dvc")).is_file()
        and other != pointer
        and content_hash(other) == content_hash(pointer)
    ]


def content_hash(pointer: Path) -> str:
    """DVC's hash of the file that a .dvc file names; a hash of nothing else, where it has none."""
    found = re.search(r"^(?:- | +)md5: (\S+)", pointer.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else str(pointer)


def shrinking_runs(params: Params, task: str, tests: set[int]) -> dict[str, int]:
    """The trained runs whose training rows ask what the new file holds out, and how many do.

    Such rows leave every version (stages/mix.py): another answer to the same question may lie in
    another part of the split, whose key need not be the question.
    """
    found = dict[str, int]()
    for run, spec in params.runs.items():
        path = Path("data/mixed", run, "train.jsonl")
        if spec.task == task and path.is_file():
            asked = (clean.question_digests(row) for row in RowFile(path))
            count = sum(not tests.isdisjoint(questions) for questions in asked)
            found |= {run: count} if count else {}
    return found
