"""Where chunks and crops lie: inside, everywhere, and as often as their area says."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.geometry import Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.placement import Placer, cell_borders

lengths = st.integers(1, 5000)


@given(lengths, st.integers(1, 300), st.integers(0, 900), st.sampled_from([1, 16, 240, 256, 512]))
def test_cells_part_the_places_where_a_crop_can_start(
    extent: int, crop: int, more: int, tile: int
) -> None:
    chunk = crop + more
    borders = cell_borders(extent, crop, chunk, tile)
    assert borders[0] == 0
    assert borders[-1] == max(extent - crop + 1, 1)
    assert (np.diff(borders) > 0).all()
    assert np.diff(borders).max() + crop - 1 <= chunk, "a crop would leave its chunk"
    if tile <= chunk - crop + 1:
        assert (borders[:-1] % tile == 0).all(), "a chunk does not start on a tile"


@given(
    st.builds(Size, lengths, lengths),
    st.builds(Size, st.integers(1, 200), st.integers(1, 200)),
    st.integers(0, 400),
    st.integers(0, 50),
    st.integers(0, 3),
)
def test_crops_lie_on_the_slide_and_in_their_chunk(
    extent: Size, crop: Size, more: int, turn: int, attempt: int
) -> None:
    chunk = Size(crop.width + more, crop.height + more)
    placer, candidate = Placer(7, chunk, crop), Candidate(0, 0, turn, attempt)
    place = placer.place(extent, Size(256, 256), candidate, visit=turn)
    crops = placer.crops(place, candidate, visit=turn, count=50)
    assert (crops >= 0).all()
    lowest, rightmost = crops.max(axis=0)
    assert rightmost + crop.width <= max(place.size.width, crop.width)
    assert lowest + crop.height <= max(place.size.height, crop.height)
    assert place.origin.x + place.size.width <= extent.width
    assert place.origin.y + place.size.height <= extent.height
    assert place.size.width <= chunk.width and place.size.height <= chunk.height


@pytest.mark.parametrize(("chunk", "crop", "tile"), [(224, 224, 256), (1024, 512, 512)])
def test_a_small_chunk_on_a_large_slide_is_placed_at_once(chunk: int, crop: int, tile: int) -> None:
    """Ten thousand million cells: nothing is made for each of them."""
    placer = Placer(0, Size(chunk, chunk), Size(crop, crop))
    extent, candidate = Size(100_357, 80_389), Candidate(0, 0, 3, 0)
    tracemalloc.start()
    place = placer.place(extent, Size(tile, tile), candidate, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert 0 <= place.origin.x < extent.width and 0 <= place.origin.y < extent.height


def test_every_place_is_equally_likely() -> None:
    """A chi-square test of crop starts over a coarse grid of the slide, edges included."""
    extent, crop = Size(1000, 700), Size(100, 100)
    placer = Placer(3, Size(300, 256), crop)
    starts = []
    for turn in range(2000):
        candidate = Candidate(0, 0, turn, 0)
        place = placer.place(extent, Size(64, 64), candidate, turn)
        crops = placer.crops(place, candidate, turn, count=4)
        starts.append(crops[:, ::-1] + (place.origin.x, place.origin.y))
    x, y = np.concatenate(starts).T
    counts, _, _ = np.histogram2d(x, y, bins=(9, 6), range=((0, 901), (0, 601)))
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    # The four crops of a chunk share its cell, so the variance is at most four times a free draw's;
    # 86 is the 0.1% point of chi-square with 53 degrees of freedom.
    assert statistic < 4 * 86


def test_visits_cover_a_slide_more_evenly_than_chance() -> None:
    """As many visits as cells see nearly all of the cells; independent draws see 63%."""
    extent, placer = Size(10_000, 10_000), Placer(1, Size(1124, 1124), Size(125, 125))
    origins = [
        placer.place(extent, Size(1, 1), Candidate(0, 0, turn, 0), turn).origin
        for turn in range(100)
    ]
    assert len(set(origins)) > 85


def test_another_attempt_is_another_place() -> None:
    placer = Placer(1, Size(300, 300), Size(100, 100))
    origins = {
        placer.place(Size(9000, 9000), Size(1, 1), Candidate(0, 0, 5, attempt), 5).origin
        for attempt in range(6)
    }
    assert len(origins) > 3
