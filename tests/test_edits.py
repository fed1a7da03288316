"""Character edits, F-beta, GLEU and loops against values worked out by hand and against slow,
obvious twins."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.scoring import edits
from stages.scoring.edits import Edit

short = st.text(alphabet="あいうを。", max_size=8)


@pytest.mark.parametrize(
    ("source", "corrected", "expected"),
    [
        ("本を読む。", "本を読む。", ()),
        ("本読む。", "本を読む。", (Edit(1, 1, "を"),)),
        ("本をを読む。", "本を読む。", (Edit(2, 3, ""),)),
        ("三枚の本", "三冊の本", (Edit(1, 2, "冊"),)),
        ("高いでした", "高かった", (Edit(1, 4, "かっ"),)),
        ("本に聞きた", "本を聞いた", (Edit(1, 2, "を"), Edit(3, 4, "い"))),
        ("", "本", (Edit(0, 0, "本"),)),
        ("本", "", (Edit(0, 1, ""),)),
        ("", "", ()),
    ],
)
def test_edits_are_what_an_annotator_would_mark(
    source: str, corrected: str, expected: tuple[Edit, ...]
) -> None:
    assert edits.edits(source, corrected) == expected


def distance(one: str, other: str) -> int:
    """Levenshtein's recursion, as he wrote it."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return distance(one[1:], other[1:])
    return 1 + min(distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:]))


@given(st.text(alphabet="あいを", max_size=5), st.text(alphabet="あいを", max_size=5))
def test_edits_are_the_fewest_characters_that_can_change(source: str, corrected: str) -> None:
    changed = sum(
        max(edit.end - edit.start, len(edit.replacement)) for edit in edits.edits(source, corrected)
    )
    assert changed == distance(source, corrected)


@given(st.text(max_size=30), st.text(max_size=30))
def test_edits_rebuild_the_correction_and_never_touch_one_another(
    source: str, corrected: str
) -> None:
    made = edits.edits(source, corrected)
    text, done = "", 0
    for edit in made:
        text += source[done : edit.start] + edit.replacement
        done = edit.end
    assert text + source[done:] == corrected
    assert all(one.end < other.start for one, other in itertools.pairwise(made))


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [
        ("本を聞いた", (2, 0, 0)),
        ("本に聞いた", (1, 0, 1)),
        ("本に聞きた", (0, 0, 2)),
        ("本が聞いた", (1, 1, 1)),  # an edit at the right place with another replacement
        ("本を聞いたよ", (2, 1, 0)),
        ("", (0, 1, 2)),
    ],
)
def test_an_edit_counts_only_with_the_same_span_and_replacement(
    hypothesis: str, expected: tuple[int, int, int]
) -> None:
    assert edits.counts("本に聞きた", hypothesis, "本を聞いた") == expected


@given(short, short, short)
def test_counts_add_up_to_what_was_made_and_what_was_wanted(
    source: str, hypothesis: str, reference: str
) -> None:
    right, spurious, missed = edits.counts(source, hypothesis, reference)
    assert right + spurious == len(edits.edits(source, hypothesis))
    assert right + missed == len(edits.edits(source, reference))
    assert (spurious == missed == 0) == (hypothesis == reference)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.sampled_from((0.5, 1.0, 2.0)))
def test_f_beta_is_the_weighted_harmonic_mean_of_precision_and_recall(
    right: int, spurious: int, missed: int, beta: float
) -> None:
    hits, excess, gaps = (np.array(count, dtype=np.float64) for count in (right, spurious, missed))
    found = float(edits.f_beta(hits, excess, gaps, beta))
    if right == 0:
        assert found == (1.0 if spurious == missed == 0 else 0.0)
    else:
        precise, complete = right / (right + spurious), right / (right + missed)
        weighted = (1 + beta**2) * precise * complete / (beta**2 * precise + complete)
        assert found == pytest.approx(weighted)
        assert float(edits.precision(hits, excess)) == pytest.approx(precise)
        assert float(edits.recall(hits, gaps)) == pytest.approx(complete)


def test_f05_prefers_precision() -> None:
    half = np.array(
        [[6, 2, 6], [6, 6, 2]], dtype=np.float64
    )  # precision and recall 3/4 and 1/2, and the reverse
    precise, complete = edits.f_beta(half[:, 0], half[:, 1], half[:, 2])
    assert precise == pytest.approx(1.25 * 0.75 * 0.5 / (0.25 * 0.75 + 0.5))
    assert complete == pytest.approx(1.25 * 0.5 * 0.75 / (0.25 * 0.5 + 0.75))
    assert precise > complete


def slow_gleu(sources: list[str], hypotheses: list[str], references: list[str]) -> float:
    """The formula with lists of n-grams and loops, one n-gram after another."""
    logs = []
    for order in (1, 2, 3, 4):
        above = below = 0
        for texts in zip(sources, hypotheses, references, strict=True):
            source, ours, theirs = (
                [text[at : at + order] for at in range(len(text) - order + 1)] for text in texts
            )
            here = 0
            for gram in set(ours):
                shared = min(ours.count(gram), theirs.count(gram))
                here += shared - max(0, min(ours.count(gram), source.count(gram)) - shared)
            above += max(0, here)
            below += len(ours)
        if below:
            logs.append(math.log(above / below) if above else -math.inf)
    if not logs:
        return float(not any(references))
    length, wanted = len("".join(hypotheses)), len("".join(references))
    return (1 if length > wanted else math.exp(1 - wanted / length)) * math.exp(
        sum(logs) / len(logs)
    )


@given(st.lists(st.tuples(short, short, short), min_size=1, max_size=4))
def test_gleu_is_its_formula(triples: list[tuple[str, str, str]]) -> None:
    sources, hypotheses, references = ([triple[at] for triple in triples] for at in range(3))
    found = edits.gleu(sources, hypotheses, references)
    assert found == pytest.approx(slow_gleu(sources, hypotheses, references))
    assert 0 <= found <= 1


def test_gleu_by_hand() -> None:
    # あいうえ -> あいうお, answered あいうお: every n-gram agrees and none is kept in error.
    assert edits.gleu(["あいうえ"], ["あいうお"], ["あいうお"]) == pytest.approx(1)
    # Copied: unigrams 3 agree, え is kept in error: 2/4; bigrams 2 - 1 of 3, trigrams 1 - 1 of 2:
    # nothing left.
    assert edits.gleu(["あいうえ"], ["あいうえ"], ["あいうお"]) == 0
    # あいうえお -> あいうえか, answered あいうえき: 4/5 3/4 2/3 1/2, nothing of the source's error kept, same
    # length.
    product = 4 / 5 * 3 / 4 * 2 / 3 * 1 / 2
    assert edits.gleu(["あいうえお"], ["あいうえき"], ["あいうえか"]) == pytest.approx(
        product**0.25
    )
    # The same answer cut by its last character: all agree, 4 characters where 5 were wanted.
    assert edits.gleu(["あいうえお"], ["あいうえ"], ["あいうえか"]) == pytest.approx(
        math.exp(1 - 5 / 4)
    )
    assert edits.gleu([], [], []) == 1


def test_gleu_ranks_the_right_answer_over_the_copy_over_nonsense() -> None:
    sources = ["昨日、図書館で本を読みます。", "三枚の本を買いました。"]
    references = ["昨日、図書館で本を読みました。", "三冊の本を買いました。"]
    nonsense = ["ねこ", "いぬ"]
    right, copied, wrong = (
        edits.gleu(sources, answers, references) for answers in (references, sources, nonsense)
    )
    assert right == pytest.approx(1)
    assert 0 < copied < 0.95
    assert wrong == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("本を読みます。", False),
        ("本を本を本を読みます。", True),
        ("本を本を読みます。", False),
        ("すすすすすし", True),
        ("すすすすし", False),
        ("読みました。\n読みました。\n読みました。\n", True),
        ("", False),
    ],
)
def test_loops_are_pieces_that_come_three_times_in_a_row(text: str, expected: bool) -> None:
    assert edits.loops(text) is expected


def test_repetition_rate_forgives_what_the_source_repeats() -> None:
    sources, answers = ["はははははは", "本を", "花"], ["はははははは", "本を本を本を", "花"]
    assert edits.repetition_rate(sources, answers) == pytest.approx(1 / 3)
    assert edits.repetition_rate([], []) == 0


def test_a_long_answer_is_searched_for_loops_in_no_time() -> None:
    varied = "".join(chr(0x4E00 + at) for at in range(5000))
    assert not edits.loops(varied)
    assert max(Counter(varied).values()) == 1
