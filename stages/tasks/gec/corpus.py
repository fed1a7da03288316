"""gec: grammatical error correction, of sentences by learners of Japanese.

Forms of lines, which one .tsv file may mix:
    3<TAB><これは>（これが）私の本です。<TAB>Particle
        the marked form: an id, the sentence with its marks, an error type
    音楽を<聞きた>。<TAB>音楽を(聞いた)。
        the paired form: the sentence with its errors marked, and with its corrections marked
    音楽を聞きた。<TAB>音楽を聞いた。
        the plain form: the sentence and its correction
    昨日、映画を見ました。
        one column, in a .txt file: a correct sentence
Brackets can be full- or half-width, and a line can have several marks. A header line is ignored.
Round brackets that belong to the sentence are kept if they are closed again.

Other files: records with a source and a target, which may be a list of references, or
conversations, as .jsonl, .json, .parquet, .csv, or .tsv with these names in its header; .m2, as the
shared tasks on correction publish it, with edits by one annotator or several.

The category of a line is its error type; "Correct" where the sentence has no error, even if the
line names a type. Where none is named it is "Insertion" where the correction only adds characters,
"Deletion" where it only removes some, and otherwise "Substitution". Of several references each is
an example of its own.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from stages.corpus import conversations, fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.records import Message, Row, Shown, answer_text
from stages.tasks.gec.marks import EITHER, MARK, marked, paired

INSTRUCTION = "次の文の誤りを直してください。"
CORRECT = "Correct"
HEADER = ("id", "marked_text", "error_type")
FORMATS = "see data/gec/README.md#formats"
SOURCES, TARGETS = ("source", "input", "original"), ("target", "output", "corrected", "references")

M2_LINE = re.compile(r"S |A -?\d+ -?\d+\|\|\|")
QUOTED = re.compile(r'"((?:[^"]|"")*)"')

SCORES_STEPS = False


def read(path: Path, columns: Mapping[str, str]) -> Iterator[Example | BadLine]:
    """The file's sentences as examples. What is in none of the forms becomes a BadLine."""
    form = source_files.form_of(path)
    if form == ".m2" or (form in (".tsv", ".txt") and _is_m2(path)):
        yield from _m2(path)
    elif columns or form not in (".tsv", ".txt") or _has_header(path):
        yield from formats.examples_of(source_files.records(path, columns), _examples)
    else:
        yield from _lines(path)


def _is_m2(path: Path) -> bool:
    """Whether a file of lines begins with a sentence and an edit, or two sentences, of M2."""
    filled = (line for _, line in source_files.lines(path) if line.strip())
    first = list(islice(filled, 2))
    return len(first) == 2 and first[0].startswith("S ") and bool(M2_LINE.match(first[1]))


def _has_header(path: Path) -> bool:
    """Whether a file of lines begins with the names of a record's parts."""
    first = next((line for _, line in source_files.lines(path)), "")
    names = {cell.strip() for cell in first.split("\t")}
    return bool(names & {*SOURCES} and names & {*TARGETS})


def _lines(path: Path) -> Iterator[Example | BadLine]:
    """A .txt file whose first line has one column is a list of correct sentences; in any other file
    a line of one column cannot be read.
    """
    listed: bool | None = None
    for line, text in source_files.lines(path):
        if not text.strip():
            continue
        text = text.rstrip("\r\n")
        if listed is None:
            listed = source_files.form_of(path) == ".txt" and "\t" not in text
        columns = _cells(text)
        if tuple(column.lower() for column in columns) == HEADER:
            continue
        try:
            source, target, category = _listed(columns) if listed else _corrected(columns)
            yield Example(line, source, target, category, form="lines of sentences")
        except Malformed as fault:
            yield BadLine(line, str(fault))


def _cells(line: str) -> list[str]:
    """The columns of a line, without the quotes that pandas puts around a cell that holds some, or
    around all.
    """
    cells = [cell.strip() for cell in line.split("\t")]
    quoted = [QUOTED.fullmatch(cell) for cell in cells]
    has_all = len(cells) > 1 and all(quoted)
    return [
        found[1].replace('""', '"').strip() if found and (has_all or '""' in found[1]) else cell
        for cell, found in zip(cells, quoted, strict=True)
    ]


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example]:
    """An example for each reference of a record."""
    if parsed := formats.parse(record, FORMATS) if "output" not in record else None:
        source = record.get("source") or parsed.before[-1]["content"].removeprefix(INSTRUCTION)
        example = _pair(line, str(source), parsed.answer, record, parsed.form, parsed.unused)
        own = [(at["role"], at["content"].strip()) for at in parsed.before]
        asked = [(at["role"], at["content"]) for at in prompt(example.source)]
        before = parsed.before if own != asked else ()
        yield replace(example, prompt=before, tools=parsed.tools)
        return
    sources, targets = ([key for key in keys if record.get(key)] for keys in (SOURCES, TARGETS))
    if len(sources) != 1 or len(targets) != 1:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: no source with its target; {FORMATS}")
    references = record[targets[0]]
    unused = fields.unused(record, {sources[0], targets[0]})
    for reference in references if isinstance(references, list) else [references]:
        if not isinstance(reference, str):
            raise Malformed(f'"{targets[0]}" is {fields.kind(reference)}; it is a text')
        source = fields.content(record, sources[0], FORMATS)
        answer = conversations.answer_of(reference, f'"{targets[0]}"')
        yield _pair(line, source, answer, record, "sources with their targets", unused)


def _pair(
    line: int,
    source: str,
    answer: Message,
    record: dict[str, Any],
    form: str,
    unused: tuple[str, ...],
) -> Example:
    source, target = source.strip(), answer_text(answer)
    if not source or not target:
        raise Malformed("an empty sentence before or after correction")
    category = CORRECT if source == target else fields.category(record) or _edited(source, target)
    example = Example(line, source, target, category, form=form, unused=unused, answer=answer)
    formats.require_encodable(example)
    return example


def _m2(path: Path) -> Iterator[Example | BadLine]:
    """Sentences with their edits (Dahlmeier & Ng 2012): `S tokens`, then `A start end|||type|||
    correction|||…|||annotator` for each edit. A sentence of Japanese is written without spaces.
    """
    numbered = ((line, text.rstrip("\r\n")) for line, text in source_files.lines(path))
    for filled, block in groupby(numbered, key=lambda item: bool(item[1].strip())):
        if not filled:
            continue
        (line, sentence), *rest = block
        try:
            if not sentence.startswith("S "):
                raise Malformed("a block begins with `S `, the sentence; its edits begin with `A `")
            tokens = sentence[2:].split()
            yield from _corrected_by_each(line, tokens, [text for _, text in rest])
        except Malformed as fault:
            yield BadLine(line, str(fault))


def _corrected_by_each(line: int, tokens: list[str], edits: list[str]) -> Iterator[Example]:
    """An example for each annotator's corrections. Raises Malformed."""
    of_annotator = defaultdict[str, list[tuple[int, int, str, str]]](list)
    for edit in edits:
        parts = edit.removeprefix("A ").split("|||")
        span = parts[0].split()
        if not edit.startswith("A ") or len(parts) < 6 or len(span) != 2:
            raise Malformed(f"'{edit[:40]}' is no edit of the M2 form")
        try:
            begin, end = int(span[0]), int(span[1])
        except ValueError:
            raise Malformed(f"'{parts[0]}' are no two positions") from None
        made = of_annotator[parts[-1]]
        if begin >= 0:  # -1 -1: this annotator changes nothing
            made.append((begin, end, parts[1], parts[2]))
    between = " " if "".join(tokens).isascii() else ""
    targets = set[str]()
    for made in of_annotator.values() or [[]]:
        corrected, at = list[str](), 0
        for begin, end, _, text in sorted(made):
            if begin < at or end < begin or end > len(tokens):
                raise Malformed(f"the edit of {begin} to {end} overlaps another, or is outside")
            corrected += [*tokens[at:begin], *text.replace("-NONE-", "").split()]
            at = end
        target = between.join([*corrected, *tokens[at:]])
        if target in targets:  # annotators who agree make one example
            continue
        targets.add(target)
        kinds = {kind for _, _, kind, _ in made}
        record = {"category": kinds.pop() if len(kinds) == 1 else ""}
        answer = conversations.answer_of(target, "the correction")
        yield _pair(line, between.join(tokens), answer, record, "M2 blocks", ())


def show(example: Example) -> Shown:
    """The conversation that is learned: the instruction with the sentence, and the correction."""
    return example.conversation(prompt(example.source))


def question(text: str) -> Row:
    return Row(id="", category="", source=text, messages=prompt(text))


def prompt(text: str) -> list[Message]:
    return [{"role": "user", "content": f"{INSTRUCTION}\n{text}"}]


def group_key(example: Example) -> str:
    """Sentences with the same correction stay on the same side of the split."""
    return example.target


def _listed(columns: list[str]) -> tuple[str, str, str]:
    if len(columns) > 1:
        raise Malformed("a tab in a list of correct sentences; put pairs into a .tsv file")
    if MARK.search(columns[0]):
        raise Malformed(
            "a mark in a list of correct sentences; "
            "the marked form has an id and an error type beside it"
        )
    return columns[0], columns[0], CORRECT


def _corrected(columns: list[str]) -> tuple[str, str, str]:
    """(source, target, category) of a line in one of the two forms."""
    if len(columns) == 3:
        source, target = marked(columns[1])
        category = columns[2]
        if not category and source != target:
            raise Malformed("no error type in the third column")
    elif len(columns) == 2:
        source, target = paired(*columns)
        category = _edited(source, target)
    else:
        raise Malformed(f"{len(columns)} column{'s' * (len(columns) != 1)}; {EITHER}")
    # A mark at an end of the sentence can leave a space there; answers are stripped too.
    source, target = source.strip(), target.strip()
    if not source or not target:
        raise Malformed(
            "an empty sentence"
            if source == target
            else "an empty sentence before or after correction"
        )
    return source, target, CORRECT if source == target else category


def _edited(source: str, target: str) -> str:
    """The category of a line that has no error type: what its correction does."""
    if _within(source, target):
        return "Insertion"
    return "Deletion" if _within(target, source) else "Substitution"


def _within(short: str, long: str) -> bool:
    """Whether the short text is a subsequence of the long one."""
    rest = iter(long)
    return all(character in rest for character in short)
