"""Which parts of a chunk its planned crops touch: the rest need not be decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.placement import Positions


def touched_parts(
    crops: Positions, crop: Size, extent: Size, cell: Size, offset: Point
) -> list[Region]:
    """What of a chunk is to be read for its crops, in as few rectangles as cells and rows allow.

    The cells of a grid that some crop touches are joined to rectangles, and each of these is cut to
    the smallest that holds what crops take of it: reading one touches all of its cells.

    `crops` is (R, 2) int32 (y, x) in a chunk of `extent`, of which no crop leaves; the grid has
    cells of `cell`, and the chunk begins `offset` pixels inside of one. All in view pixels, and the
    regions in the chunk's own frame, none overlapping another.
    """
    rows = _borders(extent.height, cell.height, offset.y)
    columns = _borders(extent.width, cell.width, offset.x)
    touched = _touched(crops, crop, rows, columns)
    found = np.array(list(_rectangles(touched)), np.int64).reshape(-1, 4)
    corners = np.stack((rows[found[:, 0]], columns[found[:, 2]]), 1)
    ends = np.stack((rows[found[:, 1]], columns[found[:, 3]]), 1)
    return [
        Region(Point(left, top), Size(right - left, bottom - top))
        for top, left, bottom, right in _cut_to_crops(corners, ends, crops, crop).tolist()
    ]


def decoded_pixels(parts: Iterable[Region], cell: Size, offset: Point) -> int:
    """Pixels of the cells that `parts`, as `touched_parts` gives them, take up in whole cells."""
    return sum(
        _whole_cells(part.location.x + offset.x, part.size.width, cell.width)
        * _whole_cells(part.location.y + offset.y, part.size.height, cell.height)
        for part in parts
    )


def crops_box(crops: Positions, crop: Size) -> Region:
    """The smallest rectangle that holds all crops; `crops` is (R, 2) int32 (y, x)."""
    top, left = crops.min(axis=0).tolist()
    bottom, right = crops.max(axis=0).tolist()
    return Region(Point(left, top), Size(right - left + crop.width, bottom - top + crop.height))


def _cut_to_crops(
    corners: NDArray[np.int64], ends: NDArray[np.int64], crops: Positions, crop: Size
) -> NDArray[np.int64]:
    """(rectangles, 4): top, left, bottom, right of what crops take of each rectangle.

    `corners` and `ends` are (rectangles, 2) (y, x); every rectangle has some crop.
    """
    low, high, extent = corners[:, None], ends[:, None], np.array((crop.height, crop.width))
    begin, end = np.clip(crops, low, high), np.clip(crops + extent, low, high)
    meets = (begin < end).all(axis=2, keepdims=True)
    return np.concatenate(
        (np.where(meets, begin, high).min(axis=1), np.where(meets, end, low).max(axis=1)), axis=1
    )


def _whole_cells(start: int, length: int, cell: int) -> int:
    return (-(-(start + length) // cell) - start // cell) * cell


def _borders(extent: int, cell: int, offset: int) -> NDArray[np.int64]:
    """Where cells begin along an axis of `extent` pixels, and its end."""
    inner = np.arange(cell - offset % cell, extent, cell, dtype=np.int64)
    return np.concatenate(([0], inner, [extent]))


def _touched(
    crops: Positions, crop: Size, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(rows - 1, columns - 1): by adding up, over both axes, where crops begin and end."""
    top = np.searchsorted(rows, crops[:, 0], "right") - 1
    left = np.searchsorted(columns, crops[:, 1], "right") - 1
    bottom = np.searchsorted(rows, crops[:, 0] + crop.height, "left")
    right = np.searchsorted(columns, crops[:, 1] + crop.width, "left")
    steps = np.zeros((len(rows), len(columns)), np.int64)
    for row, column, step in ((top, left, 1), (top, right, -1), (bottom, left, -1)):
        np.add.at(steps, (row, column), step)
    np.add.at(steps, (bottom, right), 1)
    return steps.cumsum(0).cumsum(1)[:-1, :-1] > 0


def _rectangles(touched: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of runs in a row, joined downwards where the next row's agree."""
    begun: dict[tuple[int, int], int] = {}
    for row, runs in enumerate([*_runs(touched), set()]):
        for run in [run for run in begun if run not in runs]:
            yield begun.pop(run), row, *run
        for run in runs - begun.keys():
            begun[run] = row


def _runs(touched: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """For each row, (first, behind the last) of each run of True."""
    bits = np.zeros((len(touched), touched.shape[1] + 2), np.int8)
    bits[:, 1:-1] = touched
    rows, edges = np.nonzero(bits[:, 1:] - bits[:, :-1])
    runs: list[set[tuple[int, int]]] = [set() for _ in touched]
    for row, first, end in zip(
        rows[::2].tolist(), edges[::2].tolist(), edges[1::2].tolist(), strict=True
    ):
        runs[row].add((first, end))
    return runs
