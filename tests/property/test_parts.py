"""Which parts of a chunk are read: all that crops take, of the cells they touch, nothing twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.touched_regions import (
    crops_box,
    decoded_pixels,
    representatives,
    touched_parts,
)

sides = st.integers(1, 40)


@given(
    chunk=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    crop=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    cell=st.tuples(sides, sides),
    offset=st.tuples(sides, sides),
    count=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_hold_the_crops_and_no_other_cells(
    chunk: tuple[int, int],
    crop: tuple[int, int],
    cell: tuple[int, int],
    offset: tuple[int, int],
    count: int,
    seed: int,
) -> None:
    offset = (offset[0] % cell[0], offset[1] % cell[1])
    rng = np.random.default_rng(seed)
    places = [rng.integers(0, chunk[axis] - crop[axis] + 1, count) for axis in (1, 0)]
    crops = np.stack(places, 1).astype(np.int32)
    parts = touched_parts(crops, Size(*crop), Size(*chunk), Size(*cell), Point(*offset))

    box = crops_box(crops, Size(*crop))
    assert (box.location.y, box.location.x) == tuple(crops.min(0))
    assert (
        np.add((box.size.height, box.size.width), crops.min(0)).tolist()
        == np.add(crops.max(0), crop[::-1]).tolist()
    )

    covered = np.zeros((chunk[1], chunk[0]), int)
    for part in parts:
        covered[part.slices] += 1
    wanted = np.zeros_like(covered)
    for y, x in crops:
        wanted[y : y + crop[1], x : x + crop[0]] = 1
    rows = (np.arange(chunk[1]) + offset[1]) // cell[1]
    columns = (np.arange(chunk[0]) + offset[0]) // cell[0]
    cells = rows[:, None] * 1000 + columns
    in_touched_cell = np.isin(cells, np.unique(cells[wanted == 1]))
    assert covered.max() == 1
    assert (covered >= wanted).all() and (covered <= in_touched_cell).all()
    for part in parts:
        taken = wanted[part.slices]
        assert taken[0].any() and taken[-1].any() and taken[:, 0].any() and taken[:, -1].any()
    for number in np.unique(cells[wanted == 1]):
        in_cell = cells == number
        wanted_rows, read_rows = (np.nonzero((a * in_cell).any(1))[0] for a in (wanted, covered))
        step = -(-len(np.nonzero(in_cell.any(1))[0]) // 4)
        assert read_rows[-1] < wanted_rows[-1] + step and read_rows[0] > wanted_rows[0] - step
    touched = len(np.unique(cells[wanted == 1]))
    assert decoded_pixels(parts, Size(*cell), Point(*offset)) == touched * cell[0] * cell[1]


def test_a_lone_crop_is_read_by_itself() -> None:
    crops = np.array([(10, 20)], np.int32)
    (part,) = touched_parts(crops, Size(8, 9), Size(96, 96), Size(16, 16), Point(0, 0))
    assert (part.location, part.size) == (Point(20, 10), Size(8, 9))


def test_neighbours_that_take_other_rows_are_parts_of_their_own() -> None:
    """A crop low in one tile does not have the reader decode more of the tiles beside it."""
    crops = np.array([(0, 0), (6, 16)], np.int32)
    parts = touched_parts(crops, Size(16, 10), Size(96, 96), Size(16, 16), Point(0, 0))
    boxes = sorted((part.location.x, part.location.y, part.size.height) for part in parts)
    assert boxes == [(0, 0, 10), (16, 6, 10)]


def test_a_chunk_that_is_touched_everywhere_is_one_part() -> None:
    crops = np.stack(np.meshgrid(np.arange(0, 65, 8), np.arange(0, 65, 8)), -1).reshape(-1, 2)
    (part,) = touched_parts(
        crops.astype(np.int32), Size(32, 32), Size(96, 96), Size(16, 16), Point(0, 0)
    )
    assert (part.location, part.size) == (Point(0, 0), Size(96, 96))


@given(
    crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    cell=st.tuples(sides, sides),
    offset=st.tuples(sides, sides),
    count=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_of_many_crops_those_that_stand_for_all_have_the_same_parts(
    crop: tuple[int, int],
    cell: tuple[int, int],
    offset: tuple[int, int],
    count: int,
    seed: int,
) -> None:
    places = np.random.default_rng(seed).integers(0, (101 - crop[1], 121 - crop[0]), (count, 2))
    crops = places.astype(np.int32)
    shape = (Size(*crop), Size(120, 100), Size(*cell))
    begin = Point(offset[0] % cell[0], offset[1] % cell[1])
    few = representatives(crops, *shape, begin)
    assert touched_parts(few, *shape, begin) == touched_parts(crops, *shape, begin)
    assert {tuple(place) for place in few.min(0, keepdims=True)} == {tuple(crops.min(0))}


def test_a_million_crops_in_two_corners_do_not_touch_the_others() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 200, (1 << 20, 2), np.int32)
    crops[1::2] += 700
    parts = touched_parts(crops, Size(64, 64), Size(1024, 1024), Size(256, 256), Point(0, 0))
    assert decoded_pixels(parts, Size(256, 256), Point(0, 0)) == 8 * 256 * 256
