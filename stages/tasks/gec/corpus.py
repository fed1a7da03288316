"""gec: grammatical error correction, of sentences by learners of Japanese.

Forms of lines, which one .tsv file may mix:
    3<TAB><これは>（これが）私の本です。<TAB>Particle
        the marked form: an id, the sentence with its marks, an error type
    音楽を<聞きた>。<TAB>音楽を(聞いた)。
        the paired form: the sentence with its errors marked, and with its corrections marked
    音楽を聞きた。<TAB>音楽を聞いた。
        the plain form: the sentence and its correction
    3<TAB>音楽を聞きた。<TAB>音楽を聞いた。
        the plain form with an id before it
    1<TAB>75<TAB>http://…<TAB>2<TAB>音楽を聞きた。<TAB>音楽を聞いた。
        Lang-8: the number of corrections, three ids, the sentence and its corrections
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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any

from stages.corpus import conversations, fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.records import Message, Row, Shown, answer_text
from stages.tasks.gec import m2
from stages.tasks.gec.marks import EITHER, MARK, marked, paired

INSTRUCTION = "次の文の誤りを直してください。"
CORRECT = "Correct"
HEADER = ("id", "marked_text", "error_type")
FORMATS = "see data/gec/README.md#formats"
NAMED = (
    "name the columns in the first line, and say which is which: "
    "--columns COLUMN=source --columns COLUMN=target"
)
SOURCES, TARGETS = ("source", "input", "original"), ("target", "output", "corrected", "references")

M2_LINE = re.compile(r"S |A -?\d+ -?\d+\|\|\|")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IDENTIFIER = re.compile(r"[!-~]{0,80}")
"""What an id is: no sentence of any language, which has a space or letters beyond ASCII."""
ENDS_SENTENCE = re.compile(r"[.!?。！？…][\"'」』）)”’]*$")
ALIKE = 0.5  # ratio of difflib from which on two texts are one sentence and its correction
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
        yield from formats.examples_of([(line, columns)], _of_list if listed else _of_columns)


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


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example | BadLine]:
    """An example for each reference of a record."""
    if parsed := formats.parse(record, FORMATS) if "output" not in record else None:
        asked = parsed.before[-1]["content"]
        unused = parsed.unused
        if not (source := formats.source_written(record, asked)):
            source = asked.removeprefix(INSTRUCTION)
            unused = formats.with_source(unused, record)
        example = _pair(line, source, parsed.answer, record, parsed.form, unused)
        own = [(at["role"], at["content"].strip()) for at in parsed.before]
        written = [(at["role"], at["content"]) for at in prompt(example.source)]
        before = parsed.before if own != written else ()
        yield replace(example, prompt=before, tools=parsed.tools)
        return
    sources, targets = ([key for key in keys if record.get(key)] for keys in (SOURCES, TARGETS))
    if len(sources) != 1 or len(targets) != 1:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: no source with its target; {FORMATS}")
    references = record[targets[0]]
    if isinstance(references, list):  # where others are filled, an empty one is none
        references = [each for each in references if each not in ("", None)] or references[:1]
    source = fields.content(record, sources[0], FORMATS)
    unused, form = fields.unused(record, {sources[0], targets[0]}), "sources with their targets"
    for reference in references if isinstance(references, list) else [references]:
        if not isinstance(reference, str):
            yield BadLine(line, f'"{targets[0]}" is {fields.kind(reference)}; it is a text')
            continue
        yield from _referenced(line, source, reference, record, form, unused, targets[0])


def _referenced(
    line: int,
    source: str,
    reference: str,
    record: dict[str, Any],
    form: str,
    unused: tuple[str, ...],
    key: str = "the correction",
) -> Iterator[Example | BadLine]:
    """The example of one of several references: a fault of it takes none of the others along."""
    try:
        answer = conversations.answer_of(reference, f'"{key}"')
        yield _pair(line, source, answer, record, form, unused)
    except Malformed as fault:
        yield BadLine(line, str(fault))


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
    for line, block in m2.blocks(path):
        yield from formats.examples_of([(line, block)], _of_block)


def _of_block(line: int, block: list[str]) -> Iterator[Example | BadLine]:
    for source, target, category in m2.corrections(block):
        yield from _referenced(line, source, target, {"category": category}, "M2 blocks", ())


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


def _of_list(line: int, columns: list[str]) -> Iterator[Example]:
    if len(columns) > 1:
        raise Malformed("a tab in a list of correct sentences; put pairs into a .tsv file")
    if MARK.search(columns[0]):
        raise Malformed(
            "a mark in a list of correct sentences; "
            "the marked form has an id and an error type beside it"
        )
    yield _of_line(line, columns[0], columns[0], CORRECT)


def _of_columns(line: int, columns: list[str]) -> Iterator[Example]:
    """The examples of a line in one of the other forms. Raises Malformed."""
    names = ", ".join(columns)
    if any("\r" in column for column in columns):
        raise Malformed("CR inside it; let lines end with LF or CR LF")
    if line == 1 and 2 <= len(set(columns)) == len(columns) and all(map(NAME.fullmatch, columns)):
        raise Malformed(f"columns of the names {names}; {NAMED}")
    if _is_lang_8(columns):
        *_, source = columns[:5]
        if not (targets := [each for each in columns[5:] if each]):
            raise Malformed("of Lang-8, and nobody has corrected it; leave it out")
        for target in targets:
            yield _of_line(line, source, target, "")
        return
    if len(columns) == 3 and not MARK.search(columns[1]):
        before, source, target = columns
        if _is_sentence(target, source):
            if not IDENTIFIER.fullmatch(before):
                raise Malformed(f"three sentences; {NAMED}")
            yield _of_line(line, source, target, "")
            return
        if not IDENTIFIER.fullmatch(before):
            raise Malformed(f"no id in the first of three columns, and no mark; {NAMED}")
    if len(columns) == 3:
        source, target = marked(columns[1])
        category = columns[2]
        if not category and source != target:
            raise Malformed("no error type in the third column")
    elif len(columns) == 2:
        source, target = paired(*columns)
        category = ""
    else:
        raise Malformed(f"{len(columns)} column{'s' * (len(columns) != 1)}; {EITHER}")
    yield _of_line(line, source, target, category)


def _of_line(line: int, source: str, target: str, category: str) -> Example:
    # A mark at an end of the sentence can leave a space there; answers are stripped too.
    source, target = source.strip(), target.strip()
    if not source or not target:
        raise Malformed(
            "an empty sentence"
            if source == target
            else "an empty sentence before or after correction"
        )
    category = CORRECT if source == target else category or _edited(source, target)
    return Example(line, source, target, category, form="lines of sentences")


def _is_lang_8(columns: list[str]) -> bool:
    """Whether a line begins with the number of the corrections at its end, behind four others."""
    return len(columns) >= 5 and columns[0] == str(sum(map(bool, columns[5:])))


def _is_sentence(text: str, source: str) -> bool:
    """Whether a third column is the sentence's correction, and no error type."""
    if not text or not source or (NAME.fullmatch(text) and NAME.fullmatch(source)):
        return False
    alike = SequenceMatcher(None, source, text, autojunk=False).ratio() >= ALIKE
    return alike or bool(ENDS_SENTENCE.search(text))


def _edited(source: str, target: str) -> str:
    """The category of a line that has no error type: what its correction does."""
    if _within(source, target):
        return "Insertion"
    return "Deletion" if _within(target, source) else "Substitution"


def _within(short: str, long: str) -> bool:
    """Whether the short text is a subsequence of the long one."""
    rest = iter(long)
    return all(character in rest for character in short)
