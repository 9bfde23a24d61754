"""The rectangle that was scanned, as a file tells it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali import Point, Size
from pydmed_dali.geometry import Region
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.facts_json import facts_from_json, facts_to_json
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.scanned_bounds import in_view, read_bounds
from tests.scanned_slides import write_scn

BOUNDS = Region(Point(300, 200), Size(400, 600))


def _properties(*values: object) -> dict[str, str]:
    names = ("x", "y", "width", "height")
    return {f"openslide.bounds-{n}": str(v) for n, v in zip(names, values, strict=True)}


def test_a_slide_tells_what_of_it_was_scanned(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(100, 255, (600, 400, 3), np.uint8)
    path = write_scn(tmp_path / "a.scn", pixels, BOUNDS.location, Size(1000, 1100))
    slide = open_slide(path, Cache(None))
    inside, beyond = np.empty((600, 400, 3), np.uint8), np.empty((50, 50, 3), np.uint8)
    slide.read_into(inside, BOUNDS.location, 0)
    slide.read_into(beyond, Point(260, 100), 0)
    slide.close()
    assert slide.facts.dimensions == Size(1000, 1100)
    assert slide.facts.bounds == BOUNDS
    np.testing.assert_array_equal(inside, pixels)
    assert (beyond == 255).all()
    assert facts_from_json(facts_to_json(slide.facts)) == slide.facts


def test_bounds_of_the_whole_slide_are_none() -> None:
    assert read_bounds(_properties(0, 0, 100, 200), Size(100, 200)) is None


def test_a_file_that_tells_none() -> None:
    assert read_bounds({}, Size(100, 100)) is None


def test_what_lies_beyond_the_slide_is_cut() -> None:
    found = read_bounds(_properties(10, 20, 91, 1000), Size(100, 200))
    assert found == Region(Point(10, 20), Size(90, 180))


@pytest.mark.parametrize(
    "values",
    [
        (-1, 0, 10, 10),
        (0, 0, 0, 10),
        (0, 0, 10, -3),
        (100, 0, 10, 10),
        (0, 200, 10, 10),
        ("1.5", 0, 10, 10),
        ("", 0, 10, 10),
        (0, 0, 10, "nan"),
    ],
)
def test_nonsense_is_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"openslide.bounds-x=.*: (that is|four whole)"):
        read_bounds(_properties(*values), Size(100, 200))


def test_bounds_that_lack_a_side_are_refused() -> None:
    with pytest.raises(ValueError, match="four whole numbers"):
        read_bounds({"openslide.bounds-x": "1"}, Size(100, 200))


@given(
    st.integers(0, 900),
    st.integers(1, 900),
    st.sampled_from([1.0, 2.0, 4.0, 3.0007, 1.66]),
)
def test_a_view_has_the_pixels_that_lie_wholly_inside(start: int, length: int, step: float) -> None:
    extent = math.floor(1000 / step)
    length = min(length, 1000 - start)
    bounds = Region(Point(start, start), Size(length, length))
    found = in_view(bounds, (step, step), Size(extent, extent))
    assert found is not None
    assert found.location.x == found.location.y
    assert 0 <= found.location.x < found.location.x + found.size.width <= extent
    inside = [n for n in range(extent) if n * step >= start and (n + 1) * step <= start + length]
    kept = list(range(found.location.x, found.location.x + found.size.width))
    assert kept == inside or (len(inside) == 0 and len(kept) == 1)


def test_a_view_of_a_whole_slide_has_no_bounds() -> None:
    assert in_view(None, (1.0, 1.0), Size(5, 5)) is None
