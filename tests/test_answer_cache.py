"""What a prediction that is killed has answered is not answered again."""

import json
import shutil
import tracemalloc
from pathlib import Path

import pytest

from stages.backends.shared import answer_cache, checkpoints
from stages.files import write_lines
from stages.records import Answer, RowFile
from tests.conftest import run

ROWS = [{"id": str(n), "category": "", "source": "", "text": f"{n}"} for n in range(7)]


def answers_of(rows: list) -> list[Answer]:
    return [Answer(row["text"], float(row["id"]), 1) for row in rows]


def test_a_prediction_that_ends_in_the_middle_goes_on_behind_its_last_whole_part(
    inside, monkeypatch
):
    monkeypatch.setattr(answer_cache, "PART_ROWS", 3)
    asked: list[str] = []

    def fails(rows: list) -> list[Answer]:
        if asked:
            raise KeyboardInterrupt
        asked.extend(row["id"] for row in rows)
        return answers_of(rows)

    path = inside / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_cache.Answers(path).complete(ROWS, fails)
    assert asked == ["0", "1", "2"]
    with path.open("a") as file:  # what a kill leaves of a line
        file.write('{"row": "00')

    def goes_on(rows: list) -> list[Answer]:
        asked.extend(row["id"] for row in rows)
        return answers_of(rows)

    assert [*answer_cache.Answers(path).complete(ROWS, goes_on)] == answers_of(ROWS)
    assert asked == [row["id"] for row in ROWS]
    known = answer_cache.Answers(path)
    assert len(known.known) == 7
    assert [*known.complete(ROWS, fails)] == answers_of(ROWS)


@pytest.mark.parametrize(
    "line", ["[1]", '{"row": "a", "answer": 1, "more": 2}', "\\ud800", '{"a": 1}']
)
def test_a_damaged_line_of_answers_is_an_answer_that_is_not_known(inside, line):
    path = inside / "answers.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    with path.open("ab") as file:
        file.write(b"\xff\n")
    assert [*answer_cache.Answers(path).complete(ROWS, answers_of)] == answers_of(ROWS)


def test_answers_of_many_rows_are_read_one_by_one(inside, monkeypatch):
    """Rows of the disk, and 200 bytes of memory for each: all at once they were 40 MB, and as much
    the answers."""
    many = 20_000
    write_lines(
        Path("rows.jsonl"),
        ({**ROWS[0], "id": f"{n}", "text": f"{n} " + "x" * 900} for n in range(many)),
    )
    rows, answers = RowFile(Path("rows.jsonl")), answer_cache.Answers(inside / "answers.jsonl")

    def answered(part: list) -> list[Answer]:
        return [Answer(row["text"], 0.1, 1) for row in part]

    tracemalloc.start()
    count = sum(
        answer == Answer(row["text"], 0.1, 1)
        for row, answer in zip(rows, answers.complete(rows, answered), strict=True)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == many
    assert peak < many * 200 + 2_000_000


def test_two_predictions_may_add_to_one_file(inside):
    path = inside / "answers.jsonl"
    one, other = answer_cache.Answers(path), answer_cache.Answers(path)
    assert [*one.complete(ROWS[:4], answers_of)] == answers_of(ROWS[:4])
    assert [*other.complete(ROWS[3:], answers_of)] == answers_of(ROWS[3:])
    assert [*one.complete(ROWS[2:], answers_of)] == answers_of(ROWS[2:])
    assert [*answer_cache.Answers(path).complete(ROWS, None)] == answers_of(ROWS)


def test_answers_that_no_run_has_a_use_for_and_tokens_are_removed_and_those_of_a_run_stay(clone):
    folder = clone / ".scratch/answers"
    tokens, made = clone / ".scratch/tokens/aa", clone / ".scratch/tokens/.bb.partial"
    shutil.rmtree(tokens.parent)
    for each in (tokens, made):
        each.mkdir(parents=True)
    (tokens / "ids.npy").write_bytes(b"1")
    checkpoints.seal(tokens)
    there = sorted(folder.iterdir())
    assert len(there) > 12
    (folder / "old.jsonl").write_text(json.dumps({"row": "a"}), encoding="utf-8")
    check = ("python", "-m", "stages", "check", "--clean")
    said = run(clone, *check).stdout
    assert (
        ".scratch/tokens/aa, 0.0 MiB\n.scratch/answers/old.jsonl, 0.0 MiB\n"
        "0 folders of checkpoints that no run goes on from, 1 files of answers that no run has a "
        "use for, 1 folders of tokens, which a training makes again\n" in said
    )
    assert "`check --clean --yes` removes them" in said
    assert (folder / "old.jsonl").exists()
    said = run(clone, *check, "--yes").stdout
    assert said.startswith(
        "removed .scratch/tokens/aa, 0.0 MiB\nremoved .scratch/answers/old.jsonl, 0.0 MiB\n"
    )
    assert [*tokens.parent.iterdir()] == [made]
    assert sorted(folder.iterdir()) == there
