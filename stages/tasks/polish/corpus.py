"""polish: instructions in Polish and their answers.

From files of records the forms of stages/corpus/formats.py are read; each may have a "category".
From .tsv files a lemma, an inflected form and its tags are read, as CoNLL-SIGMORPHON 2018 publishes
them (książka<TAB>książek<TAB>N;GEN;PL), or with the tags before the form, as SIGMORPHON 2023 does;
they become an instruction to inflect the lemma.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.corpus import fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.corpus.source_files import Span
from stages.records import Message, Row, Shown

FORMATS = "see data/polish/README.md#formats"
INFLECTION, INSTRUCTION = "inflection", "instruction"
TAGS = {
    "N": "rzeczownik", "ADJ": "przymiotnik", "V": "czasownik", "V.PTCP": "imiesłów",
    "NOM": "mianownik", "GEN": "dopełniacz", "DAT": "celownik", "ACC": "biernik",
    "INS": "narzędnik", "ESS": "miejscownik", "VOC": "wołacz", "SG": "liczba pojedyncza",
    "PL": "liczba mnoga", "MASC": "rodzaj męski", "FEM": "rodzaj żeński", "NEUT": "rodzaj nijaki",
    "HUM": "osobowy", "PRS": "czas teraźniejszy", "PST": "czas przeszły", "FUT": "czas przyszły",
    "COND": "tryb przypuszczający", "IMP": "tryb rozkazujący", "ACT": "strona czynna",
    "PASS": "strona bierna", "1": "1. osoba", "2": "2. osoba", "3": "3. osoba",
    "NFIN": "bezokolicznik", "ANIM": "żywotny", "INAN": "nieżywotny",
    "V.MSDR": "rzeczownik odczasownikowy", "V.CVB": "imiesłów przysłówkowy",
}  # fmt: skip

TAG = re.compile(r"[A-Z0-9][A-Z0-9.+/*{}()_-]*")
KEYS = {"system", "instruction", "input", "output", "prompt", "completion", "category"}
"""Names of columns, two of which make a header: "input" alone is also a word that is inflected."""
CALL_CHARACTERS = 100  # at most: a longer line that ends with a colon is a text
CALL = re.compile(r"#+\s.*|.*[:：][\W_]*|[\W_]*|<[^<>]*>|\[/?[A-Z]+\]")
"""A last line that calls for the answer: "Output:", "### Odpowiedź", "<|assistant|>", "[/INST]"."""

SCORES_STEPS = False


def read(
    path: Path, columns: Mapping[str, str], span: Span | None = None
) -> Iterator[Example | BadLine]:
    """The file's records as examples. A record in none of the forms becomes a BadLine."""
    if not _is_of_lemmas(path, columns):
        return formats.examples_of(source_files.records(path, columns, span), _examples)
    filled = ((line, text) for line, text in source_files.lines(path, span) if text.strip())
    cells = ((line, text.rstrip("\r\n").split("\t")) for line, text in filled)
    return formats.examples_of(cells, _inflected)


def _is_of_lemmas(path: Path, columns: Mapping[str, str]) -> bool:
    return source_files.form_of(path) == ".tsv" and not columns and not _has_header(path)


def _has_header(path: Path) -> bool:
    """Whether a .tsv file begins with the names of the parts of a record."""
    first = next((line for _, line in source_files.lines(path)), "")
    names = {cell.strip() for cell in first.split("\t")}
    return bool(names & {"output", "completion"}) or len(names & KEYS) > 1


def reads_lines_alone(path: Path, columns: Mapping[str, str]) -> bool:
    return source_files.has_a_record_in_each_line(path) or (
        source_files.has_spans(path) and _is_of_lemmas(path, columns)
    )


def show(example: Example) -> Shown:
    """The conversation that is learned."""
    return example.conversation(prompt(example.source))


def question(text: str) -> Row:
    return Row(id="", category="", source=text, messages=prompt(text))


def prompt(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def group_key(example: Example) -> str:
    """The last line of the source, which is the text that the instruction is about.

    All questions on one text then stay in the same part of the split. Of a conversation in which
    the user speaks several times it is all that the user says, since many end with the same thanks,
    and so it is where the last line only calls for the answer, as that of every row of a file may.
    """
    turns = sum(message["role"] == "user" for message in example.prompt)
    last = example.source.rpartition("\n")[2]
    calls = len(last) <= CALL_CHARACTERS and CALL.fullmatch(last.strip())
    return example.source if turns > 1 or calls else last


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example]:
    """The one example of a record of any form; its source is all that the user says."""
    parsed = formats.parse(record, FORMATS)
    if parsed is None:
        raise Malformed(f"{fields.keys_of(record)}: none of the forms of an instruction; {FORMATS}")
    messages = parsed.before
    if parsed.instruction or parsed.given:
        messages += tuple(prompt("\n".join(filter(None, (parsed.instruction, parsed.given)))))
    source = "\n".join(
        message["content"].strip() for message in messages if message["role"] == "user"
    )
    category = fields.category(record) or INSTRUCTION
    example = Example(
        line, source, parsed.target, category, messages, form=parsed.form,
        unused=formats.unused_with_source(parsed, record, source),
        answer=parsed.answer, tools=parsed.tools,
    )  # fmt: skip
    formats.require_encodable(example)
    yield example


def _inflected(line: int, columns: list[str]) -> Iterator[Example]:
    if len(columns) != 3 or not all(column.strip() for column in columns):
        raise Malformed(f"{len(columns)} columns; a line has a lemma, a form and tags, each filled")
    lemma, form, tags = (column.strip() for column in columns)
    if _tags_said(form) > _tags_said(tags):  # the order of SIGMORPHON 2023
        form, tags = tags, form
    if not _tags_said(tags):
        raise Malformed(
            f"'{tags[:40]}' are no tags such as N;GEN;PL; where the first line names the columns, "
            "say which is which: --columns COLUMN=instruction --columns COLUMN=output"
        )
    question_text = f"Odmień.\n{lemma}: {', '.join(TAGS.get(tag, tag) for tag in tags.split(';'))}"
    asked = tuple(prompt(question_text))
    yield Example(line, question_text, form, INFLECTION, asked, form="lemmas with their forms")


def _tags_said(text: str) -> int:
    """How surely a column is the tags of an inflected form: 2 where it is several, 1 where it is
    one that is known, 0 where it is none: a number, or a word in capitals.
    """
    if text.isdecimal() or not all(map(TAG.fullmatch, text.split(";"))):
        return 0
    return 2 if ";" in text else int(text in TAGS)
