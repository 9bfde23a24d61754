"""Spans: what annotations say of a grid of points, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.annotation.table import PolygonTable

Mask = NDArray[np.uint8]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """A grid of points parted into spans of one class each, none longer than a line.

    Points are numbered line by line, so that point (row, column) is `row * width + column`.
    """

    width: int
    """Points in a line."""
    borders: Integers
    """(n + 1,): where each span begins, from 0 on, and where the last one ends."""
    classes: Mask
    """(n,): the class of each span; 0 for none."""

    @property
    def nbytes(self) -> int:
        """Bytes that they take in memory."""
        return self.borders.nbytes + self.classes.nbytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Spans:
        """What `to_bytes` made."""
        with np.load(BytesIO(data)) as arrays:
            return cls(int(arrays["width"]), arrays["borders"], arrays["classes"])

    def to_bytes(self) -> bytes:
        """The spans, for `from_bytes`."""
        file = BytesIO()
        np.savez(
            file,
            allow_pickle=False,
            width=np.int64(self.width),
            borders=self.borders,
            classes=self.classes,
        )
        return file.getvalue()

    def to_mask(self) -> Mask:
        """The class of each point, (lines, width)."""
        mask = np.repeat(self.classes, np.diff(self.borders))
        return mask.reshape(-1, self.width)

    def of_class(self, number: int) -> tuple[Integers, Integers, Integers]:
        """(row, first column, column behind the last) of the spans of a class, in their order."""
        (found,) = np.nonzero(self.classes == number)
        rows, first = np.divmod(self.borders[found], self.width)
        return rows, first, first + self.borders[found + 1] - self.borders[found]


def find_spans(table: PolygonTable, classes: Sequence[str], xs: Floats, ys: Floats) -> Spans:
    """The classes of the points `xs` x `ys` (level-0 pixels, each ascending, at least one).

    Numbers follow `classes` from 1 on; where classes overlap, the later one wins. A point on an
    outline belongs to the side right of it, or below where the outline is level. By winding numbers
    along lines (Foley et al., "Computer Graphics", 2nd edition, 1990, section 3.6), all polygons of
    a class at once. Time and memory go by the outlines' crossings with lines, not by points.
    """
    width = len(xs)
    found = []
    for number, name in enumerate(classes, 1):
        near = table.find(name, (xs[0], ys[0], xs[-1], ys[-1]))
        if len(near):
            found.append((number, *_windings(*table.edges(near), xs, ys)))
    lines = np.arange(len(ys) + 1, dtype=np.int64) * width
    borders = np.unique(np.concatenate([lines, *(places for _, places, _ in found)]))
    numbers = np.zeros(len(borders) - 1, np.uint8)
    for number, places, windings in found:
        behind = np.searchsorted(places, borders[:-1], "right")
        numbers[np.append(0, windings)[behind] != 0] = number
    return Spans(width, borders, numbers)


def _windings(start: Floats, end: Floats, xs: Floats, ys: Floats) -> tuple[Integers, Integers]:
    """(points, windings): the points at which the winding number changes, and to what, in order.

    `start` and `end` are the corners of edges; outer rings run one way round and holes the other. A
    line is walked from the left: each edge that crosses it adds or takes one, and inside is where
    the sum is not 0. At its end it is 0.
    """
    falls = start[:, 1] < end[:, 1]
    # Always reckoned from its upper end, an edge that two polygons share is at one place for both.
    upper = np.where(falls[:, None], start, end)
    lower = np.where(falls[:, None], end, start)
    run = lower - upper
    first, counts = np.searchsorted(ys, upper[:, 1]), np.searchsorted(ys, lower[:, 1])
    counts -= first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    crossing = upper[edge, 0] + (ys[row] - upper[edge, 1]) * run[edge, 0] / run[edge, 1]
    places = row * len(xs) + np.searchsorted(xs, crossing)
    order = np.argsort(places, kind="stable")
    return places[order], np.cumsum(np.where(falls, 1, -1)[edge][order])
