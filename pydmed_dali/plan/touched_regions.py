"""Which parts of a chunk its planned crops touch: the rest need not be decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.placement import Positions

_STEPS = 4  # rows of neighbours are "about the same" to a quarter of a cell
_MANY = 4096  # crops that are looked into one by one
_NONE = -1
_FAR = np.iinfo(np.int64).max

Integers = NDArray[np.int64]


class _Boxes(NamedTuple):
    """The smallest rectangle that holds what crops take of each cell; each (rows, columns)."""

    top: Integers
    bottom: Integers
    """0 where no crop takes anything."""
    left: Integers
    right: Integers


def touched_parts(
    crops: Positions, crop: Size, extent: Size, cell: Size, offset: Point
) -> list[Region]:
    """What of a chunk is to be read for its crops, in few rectangles.

    Of each cell of a grid, the smallest rectangle is found that holds what crops take of it. Those
    of neighbours in a row are joined where they take about the same rows, and one below the other
    where both reach the border between them. Reading a part touches all of its cells, and of each
    not many more rows than crops take.

    `crops` is (R, 2) int32 (y, x) in a chunk of `extent`, of which no crop leaves; the grid has
    cells of `cell`, and the chunk begins `offset` pixels inside of one. All in view pixels, and the
    regions in the chunk's own frame, none overlapping another.
    """
    if len(crops) > _MANY:
        crops = representatives(crops, crop, extent, cell, offset)
    rows = _borders(extent.height, cell.height, offset.y)
    columns = _borders(extent.width, cell.width, offset.x)
    boxes = _boxes(crops, crop, rows, columns)
    tops, bottoms, lefts, rights = (box.tolist() for box in boxes)
    parts = []
    for first, last, begin, end in _rectangles(*_steps(boxes, rows)):
        top, bottom = min(tops[first][begin:end]), max(bottoms[last - 1][begin:end])
        left = min(row[begin] for row in lefts[first:last])
        right = max(row[end - 1] for row in rights[first:last])
        parts.append(Region(Point(left, top), Size(right - left, bottom - top)))
    return parts


def representatives(
    crops: Positions, crop: Size, extent: Size, cell: Size, offset: Point
) -> Positions:
    """Few crops that take of each cell the same smallest rectangle as all; as `touched_parts`.

    Of the crops that begin in one cell and end in one, all meet the same cells, and what they take
    of each follows from the lowest and the highest of their places, along each axis by itself.
    """
    places = crops.T.astype(np.int64)
    row, down = _span(places[0] + offset.y, crop.height, cell.height)
    column, along = _span(places[1] + offset.x, crop.width, cell.width)
    rows = (extent.height + offset.y) // cell.height + 1
    columns = (extent.width + offset.x) // cell.width + 1
    group = ((row * 2 + down) * columns + column) * 2 + along
    lowest = np.full((2, rows * columns * 4), _FAR, np.int64)
    highest = np.full_like(lowest, _NONE)
    for axis in (0, 1):
        np.minimum.at(lowest[axis], group, places[axis])
        np.maximum.at(highest[axis], group, places[axis])
    some = highest[0] != _NONE
    return np.concatenate((lowest[:, some], highest[:, some]), axis=1).T.astype(np.int32)


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


def _span(begin: Integers, side: int, cell: int) -> tuple[Integers, Integers]:
    """Of crops along an axis, the cell they begin in, and 0 or 1: whether they reach as many cells
    as one can, of this side.
    """
    first = begin // cell
    return first, (begin + side - 1) // cell - first - (side - 1) // cell


def _whole_cells(start: int, length: int, cell: int) -> int:
    return (-(-(start + length) // cell) - start // cell) * cell


def _borders(extent: int, cell: int, offset: int) -> NDArray[np.int64]:
    """Where cells begin along an axis of `extent` pixels, and its end."""
    inner = np.arange(cell - offset % cell, extent, cell, dtype=np.int64)
    return np.concatenate(([0], inner, [extent]))


def _boxes(crops: Positions, crop: Size, rows: Integers, columns: Integers) -> _Boxes:
    """What crops take of the cells between borders at `rows` and `columns`."""
    row, top, bottom = _met(crops[:, 0].astype(np.int64), crop.height, rows)
    column, left, right = _met(crops[:, 1].astype(np.int64), crop.width, columns)
    across = len(columns) - 1
    cells = row[:, None] * across + column  # (cells down, cells along, crops)
    met = (top < bottom)[:, None] & (left < right)
    cells, shape = cells[met], met.shape

    def folded(fold: np.ufunc, start: int, values: Integers) -> Integers:
        boxes = np.full((len(rows) - 1) * across, start)
        fold.at(boxes, cells, np.broadcast_to(values, shape)[met])
        return boxes.reshape(-1, across)

    return _Boxes(
        folded(np.minimum, _FAR, top[:, None]),
        folded(np.maximum, 0, bottom[:, None]),
        folded(np.minimum, _FAR, left),
        folded(np.maximum, 0, right),
    )


def _met(begin: Integers, extent: int, borders: Integers) -> tuple[Integers, Integers, Integers]:
    """Along an axis: the cells that crops meet, and from where to where, each (most, crops).

    Where a crop meets fewer cells than others, the further ones end before they begin.
    """
    end, first = begin + extent, np.searchsorted(borders, begin, "right") - 1
    most = int((np.searchsorted(borders, end, "left") - first).max())
    cell = np.minimum(first + np.arange(most)[:, None], len(borders) - 2)
    return cell, np.maximum(begin, borders[cell]), np.minimum(end, borders[cell + 1])


def _steps(boxes: _Boxes, rows: Integers) -> tuple[Integers, Integers]:
    """Where boxes begin and end in their cells, in steps of 0 to `_STEPS`; `_NONE` for no box."""
    above, height = rows[:-1, None], np.diff(rows)[:, None]
    none = boxes.bottom == 0
    begin = (np.where(none, above, boxes.top) - above) * _STEPS // height
    end = -((above - boxes.bottom) * _STEPS // height)
    return np.where(none, _NONE, begin), np.where(none, _NONE, end)


def _rectangles(begin: Integers, end: Integers) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right), in cells, of runs of equal steps, joined across full borders."""
    open_below: dict[tuple[int, int], int] = {}  # runs that reach the border, and where they began
    for row, runs in enumerate(_runs(begin, end)):
        reaching: dict[tuple[int, int], int] = {}
        for run, (first, last) in runs.items():
            top = open_below.pop(run, row) if first == 0 else row
            if last == _STEPS:
                reaching[run] = top
            else:
                yield top, row + 1, *run
        for run, top in open_below.items():
            yield top, row, *run
        open_below = reaching
    for run, top in open_below.items():
        yield top, len(begin), *run


def _runs(begin: Integers, end: Integers) -> list[dict[tuple[int, int], tuple[int, int]]]:
    """For each row, the runs of cells with equal steps: (first, behind the last) to the steps."""
    steps = np.pad(np.stack((begin, end), 2), ((0, 0), (1, 1), (0, 0)), constant_values=_NONE)
    rows, borders = np.nonzero((steps[:, 1:] != steps[:, :-1]).any(2))
    first = steps[rows, borders + 1].tolist()
    runs: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in begin]
    places = zip(rows.tolist(), borders.tolist(), first, strict=True)
    for (row, left, (top, bottom)), right in zip(places, borders[1:].tolist(), strict=False):
        if top != _NONE:  # each row ends with none
            runs[row][left, right] = top, bottom
    return runs
