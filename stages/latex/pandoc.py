"""pandoc, which reads LaTeX and writes Typst, as a process with limits of time and memory.

It is started with `--sandbox`, so that it opens no file of the document's choice. Many blocks are
given to one process, between marks: a start takes 10 ms. Where it refuses them, each half is given
to another one, so that a block that it cannot read costs only itself.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import pypandoc

Node = dict[str, Any]
"""An element of pandoc's JSON: {"t": its type, "c": its content}."""

MEMORY_MB = 768
SECONDS, SECONDS_A_MEGABYTE = 3.0, 12.0
"""It took 2.9 s for 1 MB of paragraphs with formulas. Macros that grow tenfold six times would take
minutes."""

MACRO_SECONDS, PATIENCE_SECONDS = 20.0, 60.0
"""For all blocks together that pandoc does not answer in time or memory: after so many seconds the
next ones are read without the document's macros, and then stay LaTeX."""

MARK = "TsugikiBlockEnds"


class Pandoc:
    """Reads and writes.   lost: seconds, on what it could not read in time or memory.   top: LaTeX
    before all blocks, for which nothing is made, such as a heading of the highest level.
    """

    def __init__(self) -> None:
        self.lost = 0.0
        self.top = ""
        self.version: list[int] = []

    def read(
        self,
        blocks: Sequence[str],
        macros: str,
        advance: Callable[[int], None] = lambda count: None,
    ) -> list[list[Node] | None]:
        """For each LaTeX block its elements; None where pandoc cannot read it.

        macros: LaTeX that stands before each of them.
        """
        if not blocks:
            return []
        found = self._read(blocks, macros)
        if found is not None:
            advance(len(blocks))
            return list(found)
        if len(blocks) == 1:
            advance(1)
            return [None]
        half = len(blocks) // 2
        return [
            *self.read(blocks[:half], macros, advance),
            *self.read(blocks[half:], macros, advance),
        ]

    def _read(self, blocks: Sequence[str], macros: str) -> list[list[Node]] | None:
        macros = macros if self.lost < MACRO_SECONDS else ""
        blocks = [self.top, *blocks]
        text = macros + "".join(f"\n\n{block}\n\n{MARK}{at}\n\n" for at, block in enumerate(blocks))
        made = self._run(text, "--from=latex+raw_tex-auto_identifiers", "--to=json")
        if made is None:
            return None
        try:
            document = json.loads(made)
        except (ValueError, RecursionError):
            return None
        self.version = document["pandoc-api-version"]
        found: list[list[Node]] = [[]]
        for element in document["blocks"]:
            if element["t"] == "Para" and element["c"] == [_string(f"{MARK}{len(found) - 1}")]:
                found.append([])
            else:
                found[-1].append(element)
        if len(found) != len(blocks) + 1 or found[-1]:
            return None
        return found[1:-1]

    def write(self, blocks: Sequence[list[Node]]) -> list[str | None]:
        """Typst for each block's elements; None where pandoc cannot write them."""
        if not blocks:
            return []
        marked = [
            [*elements, {"t": "RawBlock", "c": ["typst", f"//{MARK}{at}"]}]
            for at, elements in enumerate(blocks)
        ]
        try:
            text = json.dumps(
                {
                    "pandoc-api-version": self.version or [1, 23, 1],
                    "meta": {},
                    "blocks": [element for elements in marked for element in elements],
                }
            )
        except RecursionError:
            text = ""
        made = self._run(text, "--from=json", "--to=typst", "--wrap=preserve") if text else None
        if made is not None:
            parts = []
            for at in range(len(blocks)):
                part, mark, made = made.partition(f"//{MARK}{at}\n")
                if not mark:
                    break
                parts.append(part.strip("\n"))
            if len(parts) == len(blocks):
                return list(parts)
        if len(blocks) == 1:
            return [None]
        half = len(blocks) // 2
        return [*self.write(blocks[:half]), *self.write(blocks[half:])]

    def _run(self, text: str, *options: str) -> str | None:
        """What it writes; None where it fails, or takes more time or memory than it may."""
        left = PATIENCE_SECONDS - self.lost
        if left <= 0:
            return None
        seconds = min(SECONDS + SECONDS_A_MEGABYTE * len(text) / 2**20, max(left, 1.0))
        limits = ("+RTS", f"-M{MEMORY_MB}m", "-RTS")
        began = time.monotonic()
        try:
            ran = subprocess.run(
                [pypandoc.get_pandoc_path(), "--sandbox", *options, *limits],
                input=text,
                capture_output=True,
                encoding="utf-8",
                timeout=seconds,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            self.lost += time.monotonic() - began
            return None
        if ran.returncode:
            self.lost += time.monotonic() - began
            return None
        return ran.stdout


def _string(text: str) -> Node:
    return {"t": "Str", "c": text}
