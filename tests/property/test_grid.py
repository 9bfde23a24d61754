"""Every tile of a slide lies in exactly one chunk, and the file is decoded as rarely as can be."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.errors import SlideChangedError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.tile_grid import (
    GridPlacer,
    SlideGrid,
    chunk_borders,
    tile_count,
    tissue_shares,
)
from pydmed_dali.plan.touched_regions import decoded_pixels, touched_parts

sides = st.integers(1, 40)


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """(extent, tile, stride, chunk, cell) of one axis."""
    tile = draw(st.integers(1, 12))
    stride = draw(st.integers(1, tile))
    return draw(sides), tile, stride, draw(st.integers(tile, 30)), draw(st.integers(1, 16))


@st.composite
def grids(draw: st.DrawFn) -> tuple[SlideGrid, Size]:
    """A grid, wanted as a whole or in part, and the size of its chunks."""
    across, down = draw(axes()), draw(axes())
    extent, tile, stride, chunk, cell = (Size(x, y) for x, y in zip(across, down, strict=True))
    wanted = None
    if draw(st.booleans()):
        shape = (tile_count(*down[:3]), tile_count(*across[:3]))
        bits = draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=1600))
        wanted = np.array(bits[: shape[0] * shape[1]], np.bool_).reshape(shape)
    return SlideGrid.of(extent, tile, stride, chunk, cell, wanted), chunk


@given(axes())
def test_tiles_are_as_few_as_cover_every_pixel(axis: tuple[int, int, int, int, int]) -> None:
    extent, tile, stride, _, _ = axis
    covered = np.zeros(extent + tile, np.bool_)
    count = 0
    while not covered[:extent].all():
        covered[count * stride : count * stride + tile] = True
        count += 1
    assert tile_count(extent, tile, stride) == count
    assert (count - 1) * stride < extent, "the last tile shows something of the slide"


@given(grids())
def test_every_wanted_tile_lies_whole_in_exactly_one_chunk(case: tuple[SlideGrid, Size]) -> None:
    grid, chunk_size = case
    seen = np.zeros(grid.shape, np.int64)
    numbers, counts = grid.chunks()
    placer = GridPlacer(0, chunk_size, grid.tile, {0: grid})
    for chunk, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        candidate = Candidate(0, 0, chunk, 0)
        placement = placer.place(grid.extent, Size(1, 1), candidate, 0)
        size = placement.size
        assert size.width <= chunk_size.width
        assert size.height <= chunk_size.height
        tiles = grid.tiles_of(chunk)
        assert len(tiles) == count > 0
        np.add.at(seen, tuple(tiles.T), 1)
        places = placer.crops(placement, candidate, 0, count + 2)
        assert (places[count:] == places[count - 1]).all()
        assert (places >= 0).all()
        tile = np.array((grid.tile.height, grid.tile.width))
        assert (places + tile <= (size.height, size.width)).all()
        stride = (grid.stride.height, grid.stride.width)
        corner = np.array((placement.origin.y, placement.origin.x))
        np.testing.assert_array_equal(places[:count] + corner, tiles * stride)
    np.testing.assert_array_equal(seen, grid.wanted)
    assert grid.count == seen.sum()


@given(axes())
def test_no_other_parting_decodes_fewer_cells(axis: tuple[int, int, int, int, int]) -> None:
    extent, tile, stride, chunk, cell = axis
    count = min(tile_count(extent, tile, stride), 8)
    extent = min(extent, (count - 1) * stride + tile)
    if tile_count(extent, tile, stride) != count:
        return

    def price(borders: tuple[int, ...]) -> tuple[int, int]:
        cells = 0
        for begin, end in pairwise(borders):
            if (end - begin - 1) * stride + tile > chunk:
                return 10**9, 0
            last = min((end - 1) * stride + tile, extent)
            cells += -(-last // cell) - begin * stride // cell
        return cells, len(borders)

    inner = range(1, count)
    best = min(
        price((0, *some, count)) for few in range(count) for some in combinations(inner, few)
    )
    found = tuple(chunk_borders(extent, tile, stride, chunk, cell).tolist())
    assert (found[0], found[-1]) == (0, count)
    assert price(found) == best


@pytest.mark.parametrize(
    ("tile", "cell", "chunk"),
    [
        *((224, 256, 4096), (256, 256, 4096), (224, 240, 4096), (512, 240, 4096), (96, 256, 4096)),
        *((299, 512, 16384), (300, 256, 16384)),  # no common multiple fits in a chunk
    ],
)
@pytest.mark.parametrize("extent", [Size(102_400, 81_237), Size(20_480, 20_480)])
def test_without_overlap_little_is_decoded_twice(
    extent: Size, tile: int, cell: int, chunk: int
) -> None:
    side, cells = Size(tile, tile), Size(cell, cell)
    grid = SlideGrid.of(extent, side, side, Size(chunk, chunk), cells)
    placer, decoded = GridPlacer(0, Size(chunk, chunk), side, {0: grid}), 0
    numbers, counts = grid.chunks()
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        candidate = Candidate(0, 0, number, 0)
        placement = placer.place(extent, cells, candidate, 0)
        crops = placer.crops(placement, candidate, 0, count)
        offset = Point(placement.origin.x % cell, placement.origin.y % cell)
        parts = touched_parts(crops, side, placement.size, cells, offset)
        decoded += decoded_pixels(parts, cells, offset)
    assert decoded < 1.1 * grid.count * side.area


@given(grids(), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_tissue_shares_are_the_means_of_the_masks_pixels(
    case: tuple[SlideGrid, Size], rows: int, columns: int, random: object
) -> None:
    grid, _ = case
    seed = random.getrandbits(32)  # type: ignore[attr-defined]
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.5
    shares = tissue_shares(mask, grid.extent, grid.tile, grid.stride)
    assert shares.shape == grid.shape
    # Every view pixel as rows x columns finer ones, so that each lies whole in one of the mask's.
    fine = np.kron(mask, np.ones((grid.extent.height, grid.extent.width)))
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            top, left = row * grid.stride.height * rows, column * grid.stride.width * columns
            tile = fine[
                top : top + grid.tile.height * rows, left : left + grid.tile.width * columns
            ]
            assert shares[row, column] == pytest.approx(tile.mean(), abs=1e-9)


def test_a_slide_of_another_size_than_counted_is_refused() -> None:
    grid = SlideGrid.of(Size(100, 100), Size(8, 8), Size(8, 8), Size(64, 64), Size(16, 16))
    placer = GridPlacer(0, Size(64, 64), Size(8, 8), {0: grid})
    with pytest.raises(SlideChangedError, match="has 100x99 pixels, and had 100x100"):
        placer.place(Size(100, 99), Size(16, 16), Candidate(0, 0, 0, 0), 0)
