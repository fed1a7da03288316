"""polish: instructions in Polish and their answers.

From .jsonl files the forms of stages/corpus/formats.py are read; each record may have a "category".
From .tsv files a lemma, an inflected form and its tags are read, as CoNLL-SIGMORPHON 2018 publishes
them (książka<TAB>książek<TAB>N;GEN;PL); they become an instruction to inflect the lemma.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.corpus import formats
from stages.corpus.formats import Malformed
from stages.files import read_json_lines, read_lines
from stages.records import BadLine, Example, Message, Row, Shown

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


SCORES_STEPS = False


def read(path: Path) -> Iterator[Example | BadLine]:
    """The file's records as examples. A record in none of the forms becomes a BadLine."""
    lines: Iterator[tuple[int, Any]] = (
        read_lines(path) if path.suffix == ".tsv" else read_json_lines(path)
    )
    for line, record in lines:
        try:
            if path.suffix == ".tsv":
                yield _inflected(line, record.split("\t"))
            elif isinstance(record, str):
                raise Malformed(record)
            else:
                yield _example(line, record)
        except Malformed as fault:
            yield BadLine(line, str(fault))


def show(example: Example) -> Shown:
    """The conversation that is learned."""
    messages = list(example.prompt) or prompt(example.source)
    return {"messages": [*messages, {"role": "assistant", "content": example.target}]}


def question(text: str) -> Row:
    return Row(id="", category="", source=text, messages=prompt(text))


def prompt(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def group_key(example: Example) -> str:
    """The last line of the source, which is the text that the instruction is about.

    All questions on one text then stay in the same part of the split.
    """
    return example.source.rpartition("\n")[2]


def _example(line: int, record: dict[str, Any]) -> Example:
    """The example of a record of any form; its source is all that the user says."""
    if record.keys() & {"prompt", "completion", "messages"}:
        messages, target = formats.parse_conversation(record, FORMATS)
    elif record.keys() & {"instruction", "input", "output"} or "text" in record:
        parts = (
            record
            if "text" not in record
            else formats.parse_labelled_text(formats.content(record, "text", FORMATS), FORMATS)
        )
        system, instruction, given, target = formats.parse_instruction_record(parts, FORMATS)
        system_messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages = (*system_messages, *prompt("\n".join(filter(None, (instruction, given)))))
    else:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: none of the forms of an instruction; {FORMATS}")
    source = "\n".join(
        message["content"].strip() for message in messages if message["role"] == "user"
    )
    example = Example(line, source, target, formats.category(record) or INSTRUCTION, messages)
    formats.require_encodable(example)
    return example


def _inflected(line: int, columns: list[str]) -> Example:
    if len(columns) != 3 or not all(column.strip() for column in columns):
        raise Malformed(f"{len(columns)} columns; a line has a lemma, a form and tags, each filled")
    lemma, form, tags = (column.strip() for column in columns)
    question_text = f"Odmień.\n{lemma}: {', '.join(TAGS.get(tag, tag) for tag in tags.split(';'))}"
    return Example(line, question_text, form, INFLECTION, tuple(prompt(question_text)))
