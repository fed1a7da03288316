"""gec: grammatical error correction, of sentences by learners of Japanese.

Three forms are read:
    3<TAB><これは>（これが）私の本です。<TAB>Particle
        the marked form: an id, the sentence with its marks, an error type
    音楽を<聞きた>。<TAB>音楽を(聞いた)。
        the paired form: the sentence with its errors marked, and with its corrections marked
    昨日、映画を見ました。
        one column, in a .txt file: a correct sentence
One file may mix the first two. Brackets can be full- or half-width, and a line can have several
marks. A header line is ignored. Round brackets that belong to the sentence are kept if they are
closed again.

The category of a line is its error type; "Correct" where the sentence has no error, even if the
line names a type. The paired form names none: its category is "Insertion" where the correction only
adds characters, "Deletion" where it only removes some, and otherwise "Substitution".
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.files import read_lines
from stages.records import BadLine, Example, Message, Row, Shown

INSTRUCTION = "次の文の誤りを直してください。"
CORRECT = "Correct"
HEADER = ("id", "marked_text", "error_type")
EITHER = "the marked form has 3, the paired form marks both"

MARK = re.compile(r"[<＜]([^<>＜＞]*)[>＞][(（]([^()（）]*)[)）]")
WRONG = re.compile(r"[<＜]([^<>＜＞]*)[>＞]")
RIGHT = re.compile(r"[(（]([^()（）]*)[)）]")


class Malformed(ValueError):
    """A line that cannot be read. The message is a phrase that follows "line 12: "."""


SCORES_STEPS = False


def read(path: Path) -> Iterator[Example | BadLine]:
    """The file's lines as examples. A line in none of the forms becomes a BadLine with the reason.

    A .txt file whose first line has one column is a list of correct sentences; in any other file a
    line of one column cannot be read.
    """
    listed: bool | None = None
    for line, text in read_lines(path):
        if listed is None:
            listed = path.suffix == ".txt" and "\t" not in text
        columns = [column.strip() for column in text.split("\t")]
        if tuple(column.lower() for column in columns) == HEADER:
            continue
        try:
            yield Example(line, *(_listed(columns) if listed else _corrected(columns)))
        except Malformed as fault:
            yield BadLine(line, str(fault))


def show(example: Example) -> Shown:
    """The conversation that is learned: the instruction with the sentence, and the correction."""
    messages = list(example.prompt) or prompt(example.source)
    return {"messages": [*messages, {"role": "assistant", "content": example.target}]}


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
        source, target = _marked(columns[1])
        category = columns[2]
        if not category and source != target:
            raise Malformed("no error type in the third column")
    elif len(columns) == 2:
        source, target = _paired(*columns)
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


def _marked(text: str) -> tuple[str, str]:
    """(source, target) of a sentence of the marked form. Raises Malformed."""
    parts = MARK.split(text)  # outside, wrong, right, outside, …, outside
    outsides, wrongs, rights = parts[::3], parts[1::3], parts[2::3]
    _check_angles("".join(outsides))
    _check_rounds("".join(outsides))
    _check_marks(wrongs, rights)
    if not wrongs and text and text.isascii():
        raise Malformed(
            f"no mark and no Japanese in '{text}'; a header reads ID, Marked_Text, Error_Type"
        )
    return _woven(outsides, wrongs), _woven(outsides, rights)


def _paired(left: str, right: str) -> tuple[str, str]:
    """(source, target) of a line of the paired form. Raises Malformed.

    left: the sentence with its errors in angle brackets.   right: the sentence with their
    corrections in round brackets.
    """
    if MARK.search(left) and not RIGHT.search(right):
        raise Malformed(f"2 columns; {EITHER}")
    parts = WRONG.split(left)  # outside, wrong, outside, …, outside
    outsides, wrongs = parts[::2], parts[1::2]
    _check_angles("".join(outsides))
    if found := WRONG.search(right):
        raise Malformed(
            f"'{found[0]}' in the second column, where corrections stand in round brackets"
        )
    _check_angles(right)
    _check_rounds(right)
    if not wrongs:
        if left == right:
            return left, right
        raise Malformed(f"2 columns; {EITHER}")
    match = re.fullmatch(RIGHT.pattern.join(re.escape(outside) for outside in outsides), right)
    if match is None:
        others = RIGHT.split(right)[::2]
        if len(others) != len(outsides):
            raise Malformed(
                f"{len(wrongs)} marked in the first column, "
                f"{len(others) - 1} corrected in the second"
            )
        one, other = next(pair for pair in zip(outsides, others, strict=True) if pair[0] != pair[1])
        raise Malformed(f"the columns differ outside the marks: '{one}' and '{other}'")
    _check_marks(wrongs, match.groups())
    return _woven(outsides, wrongs), _woven(outsides, match.groups())


def _woven(outsides: Sequence[str], insides: Sequence[str]) -> str:
    return "".join(
        outside + inside for outside, inside in zip(outsides, (*insides, ""), strict=True)
    )


def _check_angles(outside: str) -> None:
    """Raise Malformed for angle brackets outside complete marks."""
    if found := WRONG.search(outside):
        rest = outside[found.end() :]
        if not rest.startswith(("(", "（")):
            raise Malformed(f"no correction in round brackets after '{found[0]}'")
        if re.search("[)）]", rest):
            raise Malformed(f"brackets inside the correction of '{found[0]}'")
        raise Malformed(f"'{rest[0]}' is never closed")
    if found := re.search("[<＜]", outside):
        raise Malformed(f"'{found[0]}' is never closed")
    if found := re.search("[>＞]", outside):
        raise Malformed(f"'{found[0]}' without a '<' before it")


def _check_rounds(text: str) -> None:
    """Raise Malformed unless every round bracket that opens is closed, and the reverse."""
    opened: list[str] = []
    for character in text:
        if character in "(（":
            opened.append(character)
        elif character in ")）":
            if not opened:
                raise Malformed(f"'{character}' without a '(' before it")
            opened.pop()
    if opened:
        raise Malformed(f"'{opened[-1]}' is never closed")


def _check_marks(wrongs: Sequence[str], rights: Sequence[str]) -> None:
    if any(not wrong and not right for wrong, right in zip(wrongs, rights, strict=True)):
        raise Malformed("a mark with nothing in it")


def _edited(source: str, target: str) -> str:
    """The category of a line that has no error type: what its correction does."""
    if _within(source, target):
        return "Insertion"
    return "Deletion" if _within(target, source) else "Substitution"


def _within(short: str, long: str) -> bool:
    """Whether the short text is a subsequence of the long one."""
    rest = iter(long)
    return all(character in rest for character in short)
