"""Sequences of tokens as flat files that are mapped into memory: what is read of them is what is
asked for, and the system keeps of it what memory has room for.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from stages.text.chat import Encoded

Arrays = dict[str, NDArray[np.generic]]

FLAT = {"ids": "<i4", "names": "u1", "between": "<i4", "step_ends": "<i4", "step_labels": "<f8"}
"""Of all sequences, one after another; names in UTF-8, NaN for a step without a label."""
COLUMNS = {"lengths": "<i4", "given": "<i4", "ends": "<i8"}
"""Of each sequence; `ends`: (N, 4), where it ends in ids, names, between and the two of steps."""


def arrays(sequences: Sequence[Encoded]) -> Arrays:
    """The sequences as arrays, as files hold them."""
    names = [sequence.id.encode() for sequence in sequences]
    between = [[place for pair in each.between for place in pair] for each in sequences]
    labels = [label for each in sequences for label in each.step_labels]
    values = {
        "ids": [token for each in sequences for token in each.ids],
        "names": np.frombuffer(b"".join(names), "u1"),
        "between": [place for each in between for place in each],
        "step_ends": [end for each in sequences for end in each.step_ends],
        "step_labels": [np.nan if label is None else label for label in labels],
        "lengths": [len(each.ids) for each in sequences],
        "given": [each.given for each in sequences],
    }
    sizes = [
        (len(each.ids), len(name), len(places), len(each.step_ends))
        for each, name, places in zip(sequences, names, between, strict=True)
    ]
    made: Arrays = {name: np.array(value, (FLAT | COLUMNS)[name]) for name, value in values.items()}
    return made | {"ends": np.array(sizes, COLUMNS["ends"]).reshape(-1, 4).cumsum(axis=0)}


def write(folder: Path, parts: Iterable[Arrays]) -> None:
    """Parts of what `arrays` makes, one after another, into files of the folder."""
    written = np.zeros(4, COLUMNS["ends"])
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in FLAT | COLUMNS}
        for part in parts:
            part = part | {"ends": part["ends"] + written}
            for name, file in files.items():
                file.write(part[name].tobytes())
            written = part["ends"][-1] if len(part["ends"]) else written


class TokenFiles(Sequence[Encoded]):
    """The sequences in a folder that `write` has filled, each made when it is asked for.

    lengths: token counts.
    """

    def __init__(self, folder: Path) -> None:
        """Needs the folder no longer then, even where it is removed."""
        self._files = {
            name: np.memmap(path, dtype, "r").view(np.ndarray)
            if (path := folder / name).stat().st_size
            else np.empty(0, dtype)
            for name, dtype in (FLAT | COLUMNS).items()
        }
        self._ends = self._files["ends"].reshape(-1, 4)
        self.places = range(len(self._ends))
        # whose items are Python's integers, which sums do not overflow and JSON knows
        self.lengths: Sequence[int] = self._files["lengths"].view("i").data

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Encoded]:
        return map(self._made, self.places)

    @overload
    def __getitem__(self, at: int) -> Encoded: ...
    @overload
    def __getitem__(self, at: slice) -> "TokenFiles": ...
    def __getitem__(self, at: int | slice) -> "Encoded | TokenFiles":
        if not isinstance(at, slice):
            return self._made(self.places[at])
        some = copy.copy(self)
        some.places, some.lengths = self.places[at], self.lengths[at]
        return some

    def _made(self, place: int) -> Encoded:
        begins = self._ends[place - 1].tolist() if place else (0, 0, 0, 0)
        ids, name, between, steps = map(slice, begins, self._ends[place].tolist())
        files = self._files
        edges, labels = files["between"][between].tolist(), files["step_labels"][steps].tolist()
        return Encoded(
            files["names"][name].tobytes().decode(),
            files["ids"][ids].tolist(),
            int(files["given"][place]),
            tuple(files["step_ends"][steps].tolist()),
            tuple(None if label != label else label for label in labels),
            tuple(zip(edges[::2], edges[1::2], strict=True)),
        )


def lengths(sequences: Sequence[Encoded]) -> Sequence[int]:
    """The token count of each sequence; of files without a look at the sequences."""
    if isinstance(sequences, TokenFiles):
        return sequences.lengths
    return [len(sequence.ids) for sequence in sequences]
