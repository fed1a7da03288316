"""Examples, rows, predictions, and what `configure` wrote; files written whole or not at all; errors that a user can act on."""

import difflib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, NotRequired, TypedDict

LISTED_LINES = 20
CONFIG = Path("build/config")


class UserError(Exception):
    """A mistake that the user can mend: one sentence with the place and the remedy. Exit code 2, no traceback."""


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One raw record of a corpus, as its task read it.

    line: 1-based, in the raw file.   source: what is given.   target: what should come out (for a text to be
    learned as it is: the text, and an empty source).   category: error type, construct or kind of document.
    prompt: the messages before the answer where the record brings its own; else the task writes them.
    steps, labels: a solution's steps and how right each is, 0 to 1; None = nobody labelled it.
    test_only: why the record may be tested on and never trained on, such as its licence.
    """

    line: int
    source: str
    target: str
    category: str
    prompt: tuple[Message, ...] = ()
    steps: tuple[str, ...] = ()
    labels: tuple[float | None, ...] = ()
    test_only: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be read, and why; yielded among the examples so that all of a file's faults are told at once."""

    line: int
    reason: str


class Row(TypedDict):
    """One prepared example, a line of data/prepared, as mlx-lm and TRL read it too.

    A conversation has `messages`, a text `text`, and a solution whose steps are scored `prompt`, `completions` (its steps)
    and `labels`, TRL's names for stepwise supervision.
    """

    id: str
    category: str
    source: str
    messages: NotRequired[list[Message]]
    text: NotRequired[str]
    prompt: NotRequired[str]
    completions: NotRequired[list[str]]
    labels: NotRequired[list[float | None]]


class Answer(NamedTuple):
    """What a model made of a row, before it is filed under the row and the model as a Prediction."""

    answer: str
    nats: float
    tokens: int
    step_scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model made of one row.

    answer: the generated text ("" for plain text rows and solutions).   nats: summed cross-entropy of the reference's
    labelled tokens, or of its labelled steps.   tokens: how many there were.   by: who answered, "run" or "base".
    step_scores: 0 to 1, one for each of the row's steps from the first on, as many as there was room for.
    """

    id: str
    corpus: str
    answer: str
    nats: float
    tokens: int
    by: str = "run"
    step_scores: Sequence[float] = ()


def target(row: Row) -> str:
    """The reference answer of a prepared row, its whole text, or its solution with a step a line."""
    if "completions" in row:
        return "\n".join(row["completions"])
    return row["messages"][-1]["content"] if "messages" in row else row["text"]


def read_lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """(line number, line) of a UTF-8 text file without its byte-order mark, one line in memory at a time.

    blank: whether lines of white space are told too.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; write the corpus there or correct its `file` in params.yaml")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path} line {number}: not UTF-8 (byte {error.start + 1} of the line); "
                    f"convert the file, for example `iconv -f CP932 -t UTF-8`"
                ) from None
            if blank or line.strip():
                yield number, line


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line number, object) of a JSONL file; for a line that is no JSON object, (line number, what is wrong with it)."""
    for number, line in read_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # a number of 4,300 digits, brackets nested past the stack
            yield number, f"not JSON: {error}"
            continue
        yield number, record if isinstance(record, dict) else f"a JSON {type(record).__name__}; a record is an object"


def rows(path: Path) -> list[Row]:
    """All rows of a prepared file."""
    return [json.loads(line) for _, line in read_lines(path)]


def predictions(path: Path) -> list[Prediction]:
    """All records of a file in data/predictions."""
    return [Prediction(**json.loads(line)) for _, line in read_lines(path)]


@contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A file that appears under its name only when the block has ended well; a full disk is the user's to mend."""
    require_writable(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(
                f"{path}: not written ({error.strerror}); make room or correct its rights, then run again"
            ) from error
        raise


def require_writable(*folders: Path) -> None:
    """Raise UserError for a folder that nothing can be written to: before hours of work, not after."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror}); correct its rights, then run again") from None


def write_json(path: Path, value: Any) -> None:
    with whole(path) as file:
        file.write(as_json(value))


def as_json(value: Any) -> str:
    """Sorted, indented JSON with a final newline: the same value gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def configured(stage: str, key: str) -> dict[str, Any]:
    """All that decides a stage beside its data, as `configure` wrote it. Raises UserError that names the nearest there is."""
    path = CONFIG / stage / f"{key}.json"
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.json"))
        raise UserError(
            f"{path}: no such file; `dvc repro configure` writes one for each entry of params.yaml{nearest(key, there)}"
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def nearest(name: str, known: list[str]) -> str:
    """What an error about an unknown name ends with."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; there are: {', '.join(known) or 'none'}"


def write_lines(path: Path, records: Iterable[Any]) -> int:
    """One JSON object a line, dataclasses included; how many were written."""
    count = 0
    with whole(path) as file:
        for record in records:
            file.write(json.dumps(record if isinstance(record, dict) else asdict(record), ensure_ascii=False) + "\n")
            count += 1
    return count


def listed(path: Path, bad: list[BadLine], count: int, remedy: str) -> UserError:
    """The error for a file with unreadable lines: the first of them by number and reason, the rest as a count."""
    shown = [f"{path} line {item.line}: {item.reason}" for item in bad[:LISTED_LINES]]
    more = [f"… and {count - len(shown)} more"] if count > len(shown) else []
    return UserError("\n".join([*shown, *more, remedy]))


def stage(main: Callable[..., None], description: str | None) -> None:
    """Run a stage with its name from the command line. The user's mistake ends it with its sentence and exit code 2."""
    wanted, given = main.__code__.co_argcount, sys.argv[1:]
    asks = given in (["-h"], ["--help"])
    if asks or len(given) != wanted:
        verb, name = Path(sys.argv[0]).stem, "NAME" if wanted else ""
        print(f"{description}\n\nusage: python -m stages.{verb} {name}    (the usual way: dvc repro {verb}{name and '@NAME'})")
        raise SystemExit(0 if asks else 2)
    try:
        main(*given)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
