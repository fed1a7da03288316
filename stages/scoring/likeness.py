"""How alike two pictures of a formula are, where they were drawn by different programs."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, find_objects, gaussian_filter, label, zoom

from stages.scoring.render import Renderer
from stages.scoring.render_worker import PIXELS_PER_INCH, Mode

Picture = NDArray[np.uint8]
"""(height, width), grey: ink is 255 on 0. Cropped to its ink."""

DPI = PIXELS_PER_INCH
MAX_PIXELS = 40_000_000
"""Of a page. A larger one is not unpacked: a few bytes can stand for gigabytes of white."""

MAX_PARTS = 2_000
"""Of a picture. More of them, or twice as many as in the other, are like nothing: a formula has a
hundred, and a thousand dots would take minutes.
"""

INK = 64
"""What is darker counts as ink."""

ALIKE = 0.67
"""A pair at or above it counts as alike. Of 736 pairs of LaTeX's picture with Typst's, half of them
with one thing changed that a reader sees at once, 97 % lie on their side of it, and an alike pair
has more than another one in 98 % of all pairs of such (63 % by SSIM, 69 % by the overlap of ink;
`python -m bench.typst measures`)."""

GAP, GAP_BLUR, RESIZED = 0.6, 1.2, 0.1
"""What a gap costs, over how many pixels it is looked for, and what another size costs. Without,
96 % lie on their side; 0.3, 1 and 1.6, 2.2 pixels are worse."""

BLUR = 0.8
"""Pixels: so that a letter which begins between two pixels is like one that does not. 0.65 is as
good, 0.5 and 1.1 are worse."""

AROUND = 2
"""Pixels around a part that belong to its place: ink there counts against it."""

REACH = 5
"""Pixels around a part's place where it is looked for, half of an x. 4 and 7 are worse."""

GOOD = 0.85
"""A part that is found so well is not looked for in other sizes."""

LARGER, LONGER = 1.4, 2.5
"""How much larger a part may be drawn; a bracket, twice as high as wide, may be so much longer."""

STRIP, DRIFT, BEND = 4, 30, 1.0
"""The columns are brought together by the ink of strips so many pixels high, within so many pixels
of the straight way; a step off it costs as much as so much ink."""

PNG = b"\x89PNG\r\n\x1a\n"


def cropped(pixels: NDArray[np.uint8]) -> Picture:
    """The part of a picture that has ink; (0, 0) where none has."""
    rows, columns = (np.flatnonzero((pixels > INK).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros((0, 0), np.uint8)
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def of_typst(sources: Sequence[str], mode: Mode) -> list[Picture | None]:
    """The first page of each source; None where it does not compile, or shows nothing."""
    with Renderer(wanted="pixels") as renderer:
        pages = [unpacked(png) if png else [] for png in renderer.render(sources, mode)]
    return [each[0] if each and each[0].size else None for each in pages]


def unpacked(pages: bytes) -> list[Picture]:
    """Pages as PNG, one after another; one of more than MAX_PIXELS as a picture of nothing."""
    found = []
    for page in pages.split(PNG)[1:]:
        width, height = struct.unpack(">II", page[8:16])  # the file's first chunk begins with them
        if width * height > MAX_PIXELS:
            found.append(np.zeros((0, 0), np.uint8))
            continue
        with Image.open(io.BytesIO(PNG + page)) as image:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image.convert("RGBA"))
            found.append(cropped(255 - np.asarray(white.convert("L"))))
    return found


def likeness(one: Picture, other: Picture) -> float:
    """0 to 1: how well each part of either picture is found in the other; its least part decides.

    A part is a connected piece of ink, such as a letter. Programs space a formula differently, so
    that first the columns are brought together (`_columns`), then each part is looked for near its
    place: its score is the soft Dice coefficient of its blurred ink and the other's there, twice
    what they share over what they have, less GAP times the most that is missing in one place, such
    as the leg of an R that is a P. Brackets and bars, which one program draws longer, may be
    found in another size. A mean over the parts would hide one wrong sign in a long formula.
    """
    if not one.size or not other.size:
        return float(one.size == other.size)
    first, second = _Parts(one), _Parts(other)
    if max(len(first), len(second)) > min(MAX_PARTS, 10 + 2 * min(len(first), len(second))):
        return 0.0
    there = _columns(first.blurred, second.blurred)
    back = np.interp(np.arange(other.shape[1]), there, np.arange(one.shape[1]))
    down = _rows(first.blurred, second.blurred)
    scores = [*first.scores(second, there, down), *second.scores(first, back, -down)]
    return min(scores, default=0.0)


class _Parts:
    """A picture's connected pieces of ink, and its blurred ink with a margin."""

    def __init__(self, picture: Picture) -> None:
        self.blurred = gaussian_filter(np.pad(picture / np.float32(255), 2), BLUR)[2:-2, 2:-2]
        self._labels, _ = label(picture > INK, structure=np.ones((3, 3)))
        self._boxes = find_objects(self._labels)
        self._framed = np.pad(self.blurred, AROUND)

    def __len__(self) -> int:
        return len(self._boxes)

    def scores(self, other: "_Parts", columns: Any, down: float) -> list[float]:
        """For each part how well it is found in the other picture.

        columns: for each column of this picture that of the other.   down: how far the other's rows
        lie below.
        """
        found = []
        for number, (rows, across) in enumerate(self._boxes, start=1):
            part = self._labels[rows, across] == number
            near = binary_dilation(np.pad(part, AROUND), iterations=AROUND)
            height, width = near.shape
            ink = self._framed[rows.start :, across.start :][:height, :width] * near
            middle = (across.start + across.stop - 1) // 2
            y = round(rows.start + down) - AROUND - REACH
            x = round(columns[middle]) - (middle - across.start) - AROUND - REACH
            there = other.cut(y, x, height + 2 * REACH, width + 2 * REACH)
            score = _best(ink, near, there)
            if score < GOOD:
                score = max(score, other.resized(part, rows.start + down, x + AROUND + REACH))
            found.append(score)
        return found

    def cut(self, y: int, x: int, height: int, width: int) -> Any:
        """A part of the blurred ink, with nothing outside."""
        cut = np.zeros((height, width), np.float32)
        top, left = max(0, y), max(0, x)
        there = self.blurred[top : max(0, y + height), left : max(0, x + width)]
        cut[top - y : top - y + there.shape[0], left - x : left - x + there.shape[1]] = there
        return cut

    def resized(self, part: Any, y: float, x: float) -> float:
        """How well a part that would begin at (y, x) is found among those near, drawn as large."""
        height, width = part.shape
        best = 0.0
        for number, (rows, across) in enumerate(self._boxes, start=1):
            tall, wide = rows.stop - rows.start, across.stop - across.start
            times = LONGER if tall > 2 * wide and height > 2 * width else LARGER
            if not (_about(tall, height, times) and _about(wide, width, times)):
                continue
            off = max(
                abs((rows.start + rows.stop) / 2 - y - height / 2) - abs(tall - height) / 2,
                abs((across.start + across.stop) / 2 - x - width / 2) - abs(wide - width) / 2,
            )
            if off > REACH:
                continue
            shape = (self._labels[rows, across] == number).astype(np.float32)
            scale = (height / tall, width / wide)
            shape = zoom(shape, scale, order=1, grid_mode=True, mode="nearest")
            mine = gaussian_filter(np.pad(part.astype(np.float32), 2), BLUR)
            theirs = gaussian_filter(np.pad(shape, 2), BLUR)
            best = max(best, _dice(mine, theirs))
        return max(0.0, best - RESIZED)


def _about(one: int, other: int, times: float) -> bool:
    return abs(one - other) <= 2 or max(one, other) <= times * min(one, other)


def _dice(one: Any, other: Any) -> float:
    return float(2 * np.minimum(one, other).sum() / (one.sum() + other.sum() + 1e-9))


def _best(ink: Any, near: Any, there: Any) -> float:
    """The Dice coefficient of ink and what is there, at the place where it is greatest, less what
    one of them lacks in one place.
    """
    best, found, sum_of_ink = 0.0, there[: len(ink), : len(ink[0])], ink.sum()
    weights = near.astype(np.float32)
    for row in range(len(there) - len(ink) + 1):  # all at once, a page's frame takes gigabytes
        # (places across, height, width)
        windows = sliding_window_view(there[row : row + len(ink)], ink.shape)[0]
        shared = np.minimum(windows, ink).sum(axis=(1, 2))
        theirs = np.einsum("xhw,hw->x", windows, weights)
        scores = 2 * shared / (sum_of_ink + theirs + 1e-9)
        place = int(scores.argmax())
        if scores[place] > best:
            best, found = float(scores[place]), windows[place]
    gap = np.abs(gaussian_filter(found * weights - ink, GAP_BLUR)).max()
    return max(0.0, best - GAP * float(gap))


def _rows(one: Any, other: Any) -> float:
    """How far the other's rows lie below."""
    mine, theirs = one.sum(axis=1), other.sum(axis=1)
    agreed = np.correlate(theirs, mine, "full")
    return float(agreed.argmax() - (len(mine) - 1))


def _columns(one: Any, other: Any) -> Any:
    """(width,): for each column of one picture that of the other, by dynamic time warping.

    The path lies within DRIFT columns of the straight one, and the pictures' columns are compared
    by the ink in strips of rows, a height that does not depend on where each begins.
    """
    down = int(_rows(one, other))
    height = max(one.shape[0] + max(down, 0), other.shape[0] + max(-down, 0))
    features = []
    for picture, top in ((one, max(down, 0)), (other, max(-down, 0))):
        padded = np.zeros((height + (-height) % STRIP, picture.shape[1]), np.float32)
        padded[top : top + picture.shape[0]] = picture
        strips = padded.reshape(-1, STRIP, picture.shape[1]).sum(axis=1)
        features.append(strips.T)
    mine, theirs = features
    wide, other_wide = len(mine), len(theirs)
    straight = np.round(np.arange(wide) * (other_wide - 1) / max(1, wide - 1)).astype(int)
    drifts = np.arange(-DRIFT, DRIFT + 1)
    place = straight[:, None] + drifts
    outside = (place < 0) | (place >= other_wide)
    cost = np.abs(mine[:, None] - theirs[np.clip(place, 0, other_wide - 1)]).sum(axis=2)
    cost[outside] = 1e6
    came = np.zeros(cost.shape, np.int8)
    total = cost[0]
    for at in range(1, wide):
        ways = np.full((3, len(drifts)), np.inf, np.float32)
        ways[0] = total
        ways[1, :-1] = total[1:] + BEND
        ways[2, 1:] = total[:-1] + BEND
        came[at] = ways.argmin(axis=0)
        total = ways.min(axis=0) + cost[at]
    path = np.zeros(wide)
    drift = int(total.argmin())
    for at in range(wide - 1, -1, -1):
        path[at] = np.clip(straight[at] + drifts[drift], 0, other_wide - 1)
        drift += (0, 1, -1)[came[at, drift]]
    return np.maximum.accumulate(path)
