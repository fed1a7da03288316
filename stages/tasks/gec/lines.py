"""Lines of sentences and their corrections in columns, and lists of correct sentences."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

from stages.corpus import formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.corpus.source_files import Span
from stages.tasks.gec.marks import EITHER, MARK, marked, paired

CORRECT = "Correct"
HEADER = ("id", "marked_text", "error_type")
NAMED = (
    "name the columns in the first line, and say which is which: "
    "--columns COLUMN=source --columns COLUMN=target"
)
NO_PAIR = f"'{{0:.40}}' and '{{1:.40}}' are no sentence and its correction; {NAMED}"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IDENTIFIER = re.compile(r"[!-~]{0,80}")
"""What an id is: no sentence of any language, which has a space or letters beyond ASCII."""
ENDS_SENTENCE = re.compile(r"[.!?。！？…][\"'」』）)”’]*$")
ALIKE = 0.5  # ratio of difflib from which on two texts are one sentence and its correction
COMPARED_CHARACTERS = 200  # of each text: the ratio takes up to the cube of the length
OF_HEADERS = re.compile(
    r"((in)?correct(ed|ions?)?|original|source|target|wrong|right|errors?|learner|native|student|"
    r"sentences?|texts?|input|output|before|after|id|no|number|type|category|[\W_]|"
    r"誤|正|原|訂正|修正|添削|用|前|後|の|文|例|学習者|入力|出力|番号|種類)+",
    re.IGNORECASE,
)
"""What names of columns are made of, as no sentence and its correction are."""
QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read(path: Path, span: Span | None = None) -> Iterator[Example | BadLine]:
    """A .txt file whose first line has one column is a list of correct sentences; in any other file
    a line of one column cannot be read.   span: those lines alone.
    """
    first = next((text for _, text in source_files.lines(path) if text.strip()), "")
    listed = source_files.form_of(path) == ".txt" and "\t" not in first
    for line, text in source_files.lines(path, span):
        if not text.strip():
            continue
        text = text.rstrip("\r\n")
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
    if line == 1 and 2 <= len(set(columns)) == len(columns) and _are_names(columns):
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
        is_named = NAME.fullmatch(target) and NAME.fullmatch(source)
        if not is_named and (_is_alike(source, target) or _is_rewritten(source, target)):
            if not IDENTIFIER.fullmatch(before):
                raise Malformed(f"three sentences; {NAMED}")
            yield _of_line(line, source, target, "")
            return
        if not IDENTIFIER.fullmatch(before):
            raise Malformed(f"no id in the first of three columns, and no mark; {NAMED}")
        if ENDS_SENTENCE.search(target):
            raise Malformed(NO_PAIR.format(source, target))
    if len(columns) == 3:
        source, target = marked(columns[1])
        category = columns[2]
        if not category and source != target:
            raise Malformed("no error type in the third column")
    elif len(columns) == 2:
        source, target = paired(*columns)
        if (source, target) == tuple(columns) and not _is_pair(source, target):
            raise Malformed(NO_PAIR.format(source, target))
        category = ""
    else:
        raise Malformed(f"{len(columns)} column{'s' * (len(columns) != 1)}; {EITHER}")
    yield _of_line(line, source, target, category)


def _of_line(line: int, source: str, target: str, kind: str) -> Example:
    # A mark at an end of the sentence can leave a space there; answers are stripped too.
    source, target = source.strip(), target.strip()
    if not source or not target:
        raise Malformed(
            "an empty sentence"
            if source == target
            else "an empty sentence before or after correction"
        )
    return Example(line, source, target, category(source, target, kind), form="lines of sentences")


def _is_lang_8(columns: list[str]) -> bool:
    """Whether a line begins with the number of the corrections at its end, behind four others."""
    return len(columns) >= 5 and columns[0] == str(sum(map(bool, columns[5:])))


def _are_names(columns: list[str]) -> bool:
    return any(all(map(names.fullmatch, columns)) for names in (NAME, OF_HEADERS))


def _is_pair(source: str, target: str) -> bool:
    """Whether two columns are a sentence and its correction, and no id or type beside a sentence:
    they are alike, or both end as sentences do, or they share something.
    """
    if not source or not target or _is_alike(source, target):
        return True  # what is empty has a fault of its own
    shares = not {*source}.isdisjoint(target)
    if any(map(ENDS_SENTENCE.search, (source, target))):
        return _is_rewritten(source, target) and (shares or bool(ENDS_SENTENCE.search(source)))
    return shares and _is_word(source) == _is_word(target)


def _is_alike(source: str, target: str) -> bool:
    one, other = source[:COMPARED_CHARACTERS], target[:COMPARED_CHARACTERS]
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE


def _is_rewritten(source: str, target: str) -> bool:
    """Whether the second text ends as a sentence does, and the first is no id or language beside
    it.
    """
    return bool(ENDS_SENTENCE.search(target)) and not _is_word(source)


def _is_word(text: str) -> bool:
    """Whether a text is what an id, a language or a type is, and no sentence."""
    says = ENDS_SENTENCE.search(text) and re.search("[A-Za-z]", text)
    return text.isascii() and " " not in text and not says


def category(source: str, target: str, kind: str) -> str:
    """The category of a sentence: its error type, or what its correction does where it has none."""
    return CORRECT if source == target else kind or _edited(source, target)


def _edited(source: str, target: str) -> str:
    """The category of a line that has no error type: what its correction does."""
    if _within(source, target):
        return "Insertion"
    return "Deletion" if _within(target, source) else "Substitution"


def _within(short: str, long: str) -> bool:
    """Whether the short text is a subsequence of the long one."""
    rest = iter(long)
    return all(character in rest for character in short)
