"""Rows and what runs made of them, on a terminal."""

import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages import outcomes
from stages.differences import differences
from stages.outcomes import ByKey, Figures, Outcome
from stages.records import target

MOST_CATEGORIES = 25
MOST_CHARACTERS = 600
ADDED, MISSING = "bold underline green", "bold strike red"
SIGNS = {chr(code): chr(0x2400 + code) for code in range(0x20)}  # ESC as ␛; others as U+FFFD
# Of Unicode's embeddings, overrides and isolates: what follows one would be shown in its order.
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
# What stands for the two styles where there are none, as in `git diff --word-diff`.
PLAIN = {ADDED: ("{+", "+}"), MISSING: ("[-", "-]")}


def print_figures(
    console: Console, task: str, run: str, scored: list[Outcome], parent: str, before: ByKey
) -> None:
    """The score, and that of each category, beside the parent's."""
    table = Table("category", "rows", "mean of rows", "score", "95 % interval")
    table.title = f"{run}: {len(scored):,} rows that are held out"
    if parent:
        table.add_column(f"change from {parent}")
    for column in table.columns[1:4]:
        column.justify = "right"
    whole = outcomes.figures(task, scored, before)
    table.add_row(Text("all"), *_cells(whole), style="bold", end_section=True)
    of_categories = outcomes.by_category(task, scored, before)
    for name in [*of_categories][:MOST_CATEGORIES]:
        table.add_row(printable(name), *_cells(of_categories[name]))
    if (left := len(of_categories) - MOST_CATEGORIES) > 0:
        table.add_row(Text(f"… and {left} more; --csv has all rows"))
    console.print(table)


def _cells(of: Figures) -> list[Text]:
    cells = [f"{of.rows:,}", f"{of.mean:.3f}", f"{of.score:.3f}", f"{of.low:.3f} to {of.high:.3f}"]
    if of.change:
        change = of.change
        cells.append(
            f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f}) {change.verdict}"
        )
    return [Text(cell) for cell in cells]


def print_rows(
    console: Console,
    run: str,
    chosen: Sequence[Outcome],
    others: dict[str, ByKey],
    most: int,
    of: int,
) -> None:
    """Each with its input, its reference, and the answers, whose differences from it are marked."""
    shown = chosen[:most]
    console.print(
        f"{len(chosen):,} of {of:,} rows chosen, {len(shown):,} of them shown", highlight=False
    )
    for outcome in shown:
        row, reference = outcome.row, target(outcome.row)
        theirs = {name: found[outcome.key] for name, found in others.items()}
        console.print()
        head = f"{row['category']} · {outcome.corpus} · {row['id']}"
        console.print(printable(head), style="bold", highlight=False)
        part = Table.grid("", "", padding=(0, 2))
        if row["source"]:
            part.add_row("input", printable(row["source"]))
        if "completions" in row:
            part.add_row("labels, steps", _steps(row["completions"], row["labels"]))
        else:
            part.add_row("reference", printable(reference))
        for name, found in {run: outcome, **theirs}.items():
            made = found.answer
            text = Text(f"{found.score:.3f}  ")
            if "completions" in row:
                text.append_text(Text(" ".join(f"{score:.2f}" for score in made.step_scores)))
            elif made.answer or "messages" in row:
                text.append_text(marked(reference, made.answer, console.is_terminal))
            text.append(f"  ({made.nats:.2f} nats, {made.tokens} tokens)", "dim")
            part.add_row(Text(name), text)
        console.print(part)


def _steps(steps: Sequence[str], labels: Sequence[float | None]) -> Text:
    lines = (
        Text(f"{'   –' if label is None else f'{label:4.2f}'}  ") + printable(step)
        for step, label in zip(steps, labels, strict=True)
    )
    return Text("\n").join(lines)


def marked(reference: str, answer: str, styled: bool) -> Text:
    """The answer; what the reference has besides is struck out, what it has not is underlined."""
    reference, answer = cut(reference), cut(answer)
    text, at = Text(), 0
    for start, end, begin, stop in differences(reference, answer):
        text.append(safe(answer[at:begin]))
        for piece, style in ((reference[start:end], MISSING), (answer[begin:stop], ADDED)):
            if piece:
                opened, closed = ("", "") if styled else PLAIN[style]
                text.append(f"{opened}{safe(piece)}{closed}", style)
        at = stop
    return text.append(safe(answer[at:]))


def printable(text: str) -> Text:
    """Cut, without mark-up and control characters."""
    return Text(safe(cut(text)))


def safe(text: str) -> str:
    """With a sign in place of each control character, and of those that turn the writing round."""
    return "".join(
        SIGNS.get(character, "\ufffd")
        if character not in "\n\t"
        and (
            unicodedata.category(character) in ("Cc", "Cs")
            or unicodedata.bidirectional(character) in TURNS
        )
        else character
        for character in text
    )


def cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters; --jsonl has all)"
