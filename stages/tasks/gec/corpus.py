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
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from stages.corpus import conversations, fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.corpus.source_files import Span
from stages.errors import UserError
from stages.records import Message, Row, Shown, answer_text
from stages.tasks.gec import lines, m2

INSTRUCTION = "次の文の誤りを直してください。"
FORMATS = "see data/gec/README.md#formats"
SOURCES, TARGETS = ("source", "input", "original"), ("target", "output", "corrected", "references")
PARTNERS = {"output": "input", "corrected": "original"}
"""The source of a target, where "source" says where the record was found."""
CONVERSATION = {"messages", "conversations", "completion", "answers"}

M2_BEGINS_WITHIN_LINES = 20
M2_LINE = re.compile(r"S |A -?\d+ -?\d+\|\|\|")

SCORES_STEPS = False


def read(
    path: Path, columns: Mapping[str, str], span: Span | None = None
) -> Iterator[Example | BadLine]:
    """The file's sentences as examples. What is in none of the forms becomes a BadLine. Raises
    UserError for a file of lines that is one of records: they would be learned as sentences.
    """
    form = source_files.form_of(path)
    if form == ".m2" or (form in (".tsv", ".txt") and _is_m2(path)):
        yield from _m2(path)
    elif columns or form not in (".tsv", ".txt") or _has_header(path, r"\t"):
        yield from formats.examples_of(source_files.records(path, columns, span), _examples)
    else:
        source_files.require_no_records(path)
        if _has_header(path, "[,;]"):
            raise UserError(f"{path}: a table of CSV; let its name end with .csv")
        yield from lines.read(path, span)


def _is_m2(path: Path) -> bool:
    """Whether a sentence and an edit, or two sentences, of M2 follow each other where a file of
    lines begins; comments may stand before them.
    """
    filled = (line for _, line in source_files.lines(path) if line.strip())
    first = islice(filled, M2_BEGINS_WITHIN_LINES)
    return any(one.startswith("S ") and M2_LINE.match(other) for one, other in pairwise(first))


def _has_header(path: Path, divided_by: str) -> bool:
    """Whether a file of lines begins with the names of a record's parts."""
    first = next((line for _, line in source_files.lines(path)), "")
    names = {cell.strip(' \r\n"') for cell in re.split(divided_by, first)}
    return bool(names & {*SOURCES} and names & {*TARGETS})


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example | BadLine]:
    """An example for each reference of a record."""
    if record.get("text") and "edits" in record:
        raise Malformed(
            "edits by their place in a text, as W&I and FCE have in .json; give the .m2 files that "
            "are published beside"
        )
    filled = {key for key, value in record.items() if value not in (None, "", [])}
    is_pair = "output" in record or (filled & {*TARGETS} and not filled & CONVERSATION)
    if parsed := formats.parse(record, FORMATS) if not is_pair else None:
        asked = parsed.before[-1]["content"]
        source = formats.source_written(record, asked) or asked.removeprefix(INSTRUCTION)
        unused = formats.unused_with_source(parsed, record, asked)
        example = _pair(line, source, parsed.answer, record, parsed.form, unused)
        own = [(at["role"], at["content"].strip()) for at in parsed.before]
        written = [(at["role"], at["content"]) for at in prompt(example.source)]
        before = parsed.before if own != written else ()
        yield replace(example, prompt=before, tools=parsed.tools)
        return
    sources, targets = ([key for key in keys if record.get(key)] for keys in (SOURCES, TARGETS))
    if len(targets) == 1 and PARTNERS.get(targets[0]) in sources:
        sources = [PARTNERS[targets[0]]]
    if len(sources) != 1 or len(targets) != 1:
        raise Malformed(f"{fields.keys_of(record)}: no source with its target; {FORMATS}")
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
    category = lines.category(source, target, fields.category(record))
    example = Example(line, source, target, category, form=form, unused=unused, answer=answer)
    formats.require_encodable(example)
    return example


def _m2(path: Path) -> Iterator[Example | BadLine]:
    for line, block in m2.blocks(path):
        yield from formats.examples_of([(line, block)], _of_block)


def _of_block(line: int, block: list[str]) -> Iterator[Example | BadLine]:
    for source, target, category in m2.corrections(block):
        yield from _referenced(line, source, target, {"category": category}, "M2 blocks", ())


def reads_lines_alone(path: Path, columns: Mapping[str, str]) -> bool:
    if not source_files.has_spans(path):
        return False
    is_of_lines = source_files.form_of(path) in (".tsv", ".txt") and not (
        columns or _is_m2(path) or _has_header(path, r"\t")
    )
    return is_of_lines or source_files.has_a_record_in_each_line(path)


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
