"""Eligible places as runs in lines: exact to the pixel, where blocks of a mask are too coarse.

What `Eligible` is for tissue, `Runs` is for the class of a crop's centre: see there for *place*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.eligible import Eligible

Integers = NDArray[np.int64]
Columns = NDArray[np.int32]

_LINE = np.int64(1) << 32  # keys of places: longer than any line


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Places in runs of neighbours, sorted by line, then by column, none meeting another.

    Places are numbered in that order, so that a uniform number is a uniform place.
    """

    y: Columns
    """(n,): the line of each run."""
    x: Columns
    """(n,): its first place."""
    end: Columns
    """(n,): the column behind its last place."""
    before: Integers
    """(n + 1,): places in the runs before each; the last one is their count."""

    @classmethod
    def of(cls, y: Integers, x: Integers, end: Integers) -> Runs:
        """The runs that are not empty."""
        kept = end > x
        lengths = (end - x)[kept]
        return cls(
            y[kept].astype(np.int32),
            x[kept].astype(np.int32),
            end[kept].astype(np.int32),
            np.append(0, np.cumsum(lengths, dtype=np.int64)),
        )

    @classmethod
    def none(cls) -> Runs:
        """No place at all."""
        empty = np.zeros(0, np.int64)
        return cls.of(empty, empty, empty)

    @property
    def nbytes(self) -> int:
        """Bytes that they take in memory."""
        return self.y.nbytes + self.x.nbytes + self.end.nbytes + self.before.nbytes

    @property
    def count(self) -> int:
        """How many places they hold."""
        return int(self.before[-1])

    def cell_of(self, number: int, rows: Integers, columns: Integers) -> tuple[int, int]:
        """(row, column) of a cell, of which each has as many numbers as places.

        As `Eligible.cell_of`: `rows` and `columns` are borders of cells that part the places, and
        0 <= number < count.
        """
        y = int(self.y[np.searchsorted(self.before, number, "right") - 1])
        row = int(np.searchsorted(rows, y, "right")) - 1
        lines = self._lines(int(rows[row]), int(rows[row + 1]))
        x, lengths = self.x[lines].astype(np.int64), (self.end - self.x)[lines]
        rest = number - int(self.before[lines.start])
        column, behind = 0, len(columns) - 1
        while behind - column > 1:  # at most `rest` places lie left of `column`
            middle = (column + behind) // 2
            if int(np.clip(columns[middle] - x, 0, lengths).sum()) <= rest:
                column = middle
            else:
                behind = middle
        return row, column

    def places_in(self, origin: Point, cell: Size) -> Runs:
        """Those among the `cell` places from `origin` on, counted from there."""
        lines = self._lines(origin.y, origin.y + cell.height)
        left, right = (
            np.clip(values[lines].astype(np.int64) - origin.x, 0, cell.width)
            for values in (self.x, self.end)
        )
        return Runs.of(self.y[lines].astype(np.int64) - origin.y, left, right)

    def at(self, numbers: Integers) -> Integers:
        """(N, 2): (y, x) of the places of these numbers, 0 <= number < count."""
        run = np.searchsorted(self.before, numbers, "right") - 1
        return np.stack([self.y[run], self.x[run] + numbers - self.before[run]], axis=-1)

    def within(self, eligible: Eligible) -> Runs:
        """Those that are eligible, too."""
        ends = np.zeros((eligible.blocks.shape[0], eligible.blocks.shape[1] + 2), np.int8)
        ends[:, 1:-1] = eligible.blocks
        block, column = np.nonzero(ends[:, 1:] - ends[:, :-1])
        lefts, rights = eligible.columns[column[::2]], eligible.columns[column[1::2]]
        line = block[::2] * _LINE
        own = (np.searchsorted(eligible.rows, self.y, "right") - 1) * _LINE
        first = np.searchsorted(line + rights, own + self.x, "right")
        behind = np.searchsorted(line + lefts, own + self.end, "left")
        met = np.maximum(behind - first, 0)
        run = np.repeat(np.arange(len(met)), met)
        part = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(met) - met, met)
        return Runs.of(
            self.y[run].astype(np.int64),
            np.maximum(self.x[run], lefts[part]),
            np.minimum(self.end[run], rights[part]),
        )

    def _lines(self, top: int, bottom: int) -> slice:
        """The runs in the lines from `top` to before `bottom`."""
        return slice(*np.searchsorted(self.y, (top, bottom)).tolist())
