"""Where crops have enough tissue: against the definition, counted pixel by pixel."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.eligible import Eligible, eligible_places
from pydmed_dali.plan.placement import Placer, cell_borders

Mask = NDArray[np.bool_]

sides = st.integers(1, 40)
sizes = st.builds(Size, sides, sides)
crops = st.builds(Size, st.integers(1, 20), st.integers(1, 20))
shares = st.sampled_from([0.01, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Coarse and fine masks, from nearly empty to nearly full."""
    shape = draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.random(shape) < draw(st.sampled_from([0.05, 0.5, 0.95, 1.0]))


def _tissue(mask: Mask, extent: Size) -> Mask:
    """(height, width): each view pixel as the mask's pixel that holds its centre."""
    rows = (2 * np.arange(extent.height) + 1) * mask.shape[0] // (2 * extent.height)
    columns = (2 * np.arange(extent.width) + 1) * mask.shape[1] // (2 * extent.width)
    return mask[np.ix_(rows, columns)]


def _enough(mask: Mask, extent: Size, crop: Size, share: float) -> Mask:
    """Of each place, whether the crop there has so much tissue."""
    tissue = _tissue(mask, extent)
    places = (max(extent.height - crop.height + 1, 1), max(extent.width - crop.width + 1, 1))
    return np.array(
        [
            [
                tissue[y : y + crop.height, x : x + crop.width].sum() / crop.area >= share
                for x in range(places[1])
            ]
            for y in range(places[0])
        ]
    )


def _as_places(eligible: Eligible) -> Mask:
    """Of each place, whether it is eligible."""
    return np.repeat(
        np.repeat(eligible.blocks, np.diff(eligible.rows), axis=0),
        np.diff(eligible.columns),
        axis=1,
    )


@given(masks(), sizes, crops, shares)
def test_a_block_is_eligible_if_every_crop_that_starts_in_it_has_enough_tissue(
    mask: Mask, extent: Size, crop: Size, share: float
) -> None:
    enough = _enough(mask, extent, crop, share)
    eligible = eligible_places(mask, extent, crop, share)
    assert (eligible.rows[-1], eligible.columns[-1]) == enough.shape
    for row, column in np.ndindex(eligible.blocks.shape):
        block = enough[
            eligible.rows[row] : eligible.rows[row + 1],
            eligible.columns[column] : eligible.columns[column + 1],
        ]
        assert eligible.blocks[row, column] == block.all()
    assert eligible.count == _as_places(eligible).sum()


@given(masks(), sizes, crops)
def test_blocks_are_no_larger_than_half_a_crop(mask: Mask, extent: Size, crop: Size) -> None:
    eligible = eligible_places(mask, extent, crop, 0.5)
    assert np.diff(eligible.rows).max() <= max(-(-crop.height // 2), 1)
    assert np.diff(eligible.columns).max() <= max(-(-crop.width // 2), 1)


@given(masks(), sizes, crops, shares, st.integers(0, 12), st.sampled_from([1, 4, 16]))
def test_the_numbers_of_eligible_places_name_each_of_them_once(
    mask: Mask, extent: Size, crop: Size, share: float, more: int, tile: int
) -> None:
    """All numbers of the slide, cell by cell, are the eligible places; no other is ever drawn."""
    eligible = eligible_places(mask, extent, crop, share)
    rows = cell_borders(extent.height, crop.height, crop.height + more, tile)
    columns = cell_borders(extent.width, crop.width, crop.width + more, tile)
    cells = [eligible.cell_of(number, rows, columns) for number in range(eligible.count)]
    assert cells == sorted(cells)
    named = np.zeros((rows[-1], columns[-1]), np.int64)
    for row, column in set(cells):
        origin = Point(int(columns[column]), int(rows[row]))
        places = eligible.places_in(
            origin, Size(int(columns[column + 1]) - origin.x, int(rows[row + 1]) - origin.y)
        )
        assert places.count == cells.count((row, column)), "not in proportion to its places"
        y, x = places.at(np.arange(places.count)).T
        np.add.at(named, (y + origin.y, x + origin.x), 1)
    np.testing.assert_array_equal(named, _as_places(eligible))


@given(masks(), sizes, crops, shares, st.integers(0, 30), st.integers(0, 3))
def test_crops_have_enough_tissue(
    mask: Mask, extent: Size, crop: Size, share: float, turn: int, attempt: int
) -> None:
    eligible = eligible_places(mask, extent, crop, share)
    if not eligible.count:
        return
    placer = Placer(5, Size(crop.width + 9, crop.height + 7), crop)
    candidate = Candidate(0, 0, turn, attempt)
    place = placer.place(extent, Size(8, 8), candidate, turn, eligible)
    y, x = placer.crops(place, candidate, turn, 30).T
    assert (x + crop.width <= max(place.size.width, crop.width)).all()
    assert (y + crop.height <= max(place.size.height, crop.height)).all()
    assert _enough(mask, extent, crop, share)[y + place.origin.y, x + place.origin.x].all()


@given(sizes, crops, st.integers(0, 30), st.integers(0, 3))
def test_where_all_is_tissue_the_same_chunks_are_read_as_without_a_mask(
    extent: Size, crop: Size, turn: int, attempt: int
) -> None:
    eligible = eligible_places(np.ones((3, 5), np.bool_), extent, crop, 0.01)
    if eligible.count < max(extent.width - crop.width + 1, 1) * max(
        extent.height - crop.height + 1, 1
    ):
        return  # smaller than a crop, the rest of which is no tissue
    placer = Placer(5, Size(crop.width + 9, crop.height + 7), crop)
    candidate = Candidate(0, 0, turn, attempt)
    bare = placer.place(extent, Size(8, 8), candidate, turn)
    masked = placer.place(extent, Size(8, 8), candidate, turn, eligible)
    assert (masked.origin, masked.size, masked.cell) == (bare.origin, bare.size, bare.cell)


def test_every_eligible_place_is_equally_likely() -> None:
    """A chi-square test of crop starts over coarse squares of the eligible area."""
    extent, crop = Size(1000, 700), Size(100, 100)
    y, x = np.mgrid[:70, :100]
    mask = (np.hypot(x - 40, y - 30) < 28) | ((x > 75) & (y > 40) & (x + y < 155))
    eligible = eligible_places(mask, extent, crop, 0.5)
    placer = Placer(3, Size(300, 256), crop)
    starts = []
    for turn in range(3000):
        candidate = Candidate(0, 0, turn, 0)
        place = placer.place(extent, Size(64, 64), candidate, turn, eligible)
        crops = placer.crops(place, candidate, turn, count=4)
        starts.append(crops + np.array((place.origin.y, place.origin.x)))
    drawn_y, drawn_x = np.concatenate(starts).T
    open_y, open_x = np.nonzero(_as_places(eligible))
    edges = (np.arange(0, 602, 50), np.arange(0, 902, 50))
    area = np.histogram2d(open_y, open_x, bins=edges)[0]
    counts = np.histogram2d(drawn_y, drawn_x, bins=edges)[0]
    assert counts[area == 0].sum() == 0
    expected = len(drawn_y) * area / area.sum()
    judged = expected >= 20
    statistic = ((counts - expected)[judged] ** 2 / expected[judged]).sum()
    assert judged.sum() == 121
    # 173 is the 0.1% point of chi-square with 120 degrees of freedom, for free draws. The four
    # crops of a chunk share its cell, but the chunks cover the slide more evenly than free draws.
    assert statistic < 173


def test_visits_cover_the_tissue_more_evenly_than_chance() -> None:
    """As many visits as cells with tissue see nearly all of them; independent draws see 63%."""
    extent, crop = Size(10_000, 10_000), Size(125, 125)
    mask = np.zeros((80, 80), np.bool_)
    mask[:40] = True
    eligible = eligible_places(mask, extent, crop, 1.0)
    placer = Placer(1, Size(1124, 1124), crop)
    origins = [
        placer.place(extent, Size(1, 1), Candidate(0, 0, turn, 0), turn, eligible).origin
        for turn in range(50)
    ]
    assert len(set(origins)) > 42
    assert max(origin.y for origin in origins) < 5000


@pytest.mark.parametrize(("chunk", "crop"), [(224, 224), (1024, 512), (4096, 224)])
def test_a_chunk_on_a_large_slide_is_placed_at_once(chunk: int, crop: int) -> None:
    """Up to ten thousand million cells: nothing is made for each of them."""
    extent, mask = Size(100_357, 80_389), np.zeros((1641, 2048), np.bool_)
    mask[300:900, 500:1500] = True
    eligible = eligible_places(mask, extent, Size(crop, crop), 0.5)
    placer = Placer(0, Size(chunk, chunk), Size(crop, crop))
    candidate = Candidate(0, 0, 3, 0)
    tracemalloc.start()
    place = placer.place(extent, Size(256, 256), candidate, 3, eligible)
    crops = placer.crops(place, candidate, 3, 512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    y, x = (crops + np.array((place.origin.y, place.origin.x))).T
    assert 300 * 49 - crop < y.min() and y.max() < 900 * 49
    assert 500 * 49 - crop < x.min() and x.max() < 1500 * 49


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_coarse_mask_of_the_user_s_leaves_its_tissue_eligible(share: float) -> None:
    """One pixel of four is tissue, much larger than a crop: about a quarter of the places."""
    mask = np.array([[True, False], [False, False]])
    eligible = eligible_places(mask, Size(4000, 3000), Size(100, 100), share)
    assert 0.85 < eligible.count / (2000 * 1500) < 1.1


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(0, 39), st.integers(0, 39)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32 - 1),
)
def test_places_inside_a_region_are_those_of_crops_that_lie_in_it(
    extent: tuple[int, int],
    crop: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    seed: int,
) -> None:
    corner = (min(corner[0], extent[0] - 1), min(corner[1], extent[1] - 1))
    size = (min(size[0], extent[0] - corner[0]), min(size[1], extent[1] - corner[1]))
    places = [max(whole - part + 1, 1) for whole, part in zip(extent, crop, strict=True)]
    drawn = np.random.default_rng(seed).random((places[1], places[0])) < 0.7
    rows, columns = np.arange(places[1] + 1), np.arange(places[0] + 1)
    found = Eligible.of(rows, columns, drawn).inside(
        Region(Point(*corner), Size(*size)), Size(*extent), Size(*crop)
    )
    expected = np.zeros_like(drawn)
    allowed = []
    for axis in (0, 1):
        start, behind = corner[axis], corner[axis] + size[axis] - crop[axis]
        last = places[axis] - 1
        allowed.append(range(min(start, last), min(max(behind, start), last) + 1))
    expected[allowed[1][0] : allowed[1][-1] + 1, allowed[0][0] : allowed[0][-1] + 1] = True
    expected &= drawn
    assert found.count == expected.sum()
    assert sorted(_all_places(found)) == sorted(map(tuple, np.argwhere(expected).tolist()))


def _all_places(found: Eligible) -> list[tuple[int, int]]:
    """(y, x) of every place."""
    cell = Size(int(found.columns[-1]), int(found.rows[-1]))
    places = found.places_in(Point(0, 0), cell)
    return list(map(tuple, places.at(np.arange(places.count)).tolist()))
