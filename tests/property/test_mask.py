"""Class masks against shapely's answer for each pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import Polygon

from pydmed_dali import Annotation, Annotations, Point, Size, classes_at, rasterize

# Halves: with whole coordinates and steps of 2 or 3, outlines run through centres of pixels often.
halves = st.integers(-4, 44).map(lambda number: number / 2)
corners = st.lists(st.tuples(halves, halves), min_size=3, max_size=9, unique=True)
steps = st.sampled_from([0.5, 1.0, 2.0, 3.0])


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    """A polygon with corners at halves, and perhaps a hole."""
    outer, hole = (_around_its_centre(draw(corners)) for _ in range(2))
    with_hole = Polygon(outer, [hole])
    polygon = with_hole if with_hole.is_valid else Polygon(outer)
    assume(polygon.is_valid and polygon.area > 0)
    return polygon


def _around_its_centre(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    x, y = np.mean(points, axis=0)
    return sorted(points, key=lambda point: np.arctan2(point[1] - y, point[0] - x))


def brute_force(
    polygons: list[Polygon], location: Point, size: Size, step: tuple[float, float]
) -> NDArray[np.bool_]:
    """shapely's answer for each centre; what lies on an outline is asked a little right and below.

    All coordinates are halves below 24, so that nothing else lies that near.
    """
    y, x = np.indices((size.height, size.width)) + 0.5
    x, y = location.x + x * step[0], location.y + y * step[1]
    union = np.zeros(x.shape, bool)
    for polygon in polygons:
        on_outline = shapely.intersects_xy(polygon.boundary, x, y)
        inside = shapely.contains_xy(polygon, x, y)
        union |= np.where(on_outline, shapely.contains_xy(polygon, x + 1e-4, y + 1e-8), inside)
    return union


@given(
    st.lists(polygons(), min_size=1, max_size=3),
    st.lists(polygons(), min_size=0, max_size=2),
    st.builds(Point, st.integers(-5, 12), st.integers(-5, 12)),
    st.builds(Size, st.integers(1, 30), st.integers(1, 30)),
    st.tuples(steps, steps),
)
def test_a_mask_is_what_shapely_says_of_each_centre(
    first: list[Polygon],
    second: list[Polygon],
    location: Point,
    size: Size,
    step: tuple[float, float],
) -> None:
    regions = [Annotation(n, (p,)) for n, some in (("a", first), ("b", second)) for p in some]
    mask = rasterize(Annotations(Path("x"), tuple(regions)), ["a", "b"], location, size, step)
    expected = np.zeros((size.height, size.width), np.uint8)
    expected[brute_force(first, location, size, step)] = 1
    expected[brute_force(second, location, size, step)] = 2
    assert (mask == expected).all()


@given(st.lists(polygons(), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_a_point_has_the_class_that_shapely_says(some: list[Polygon], seed: int) -> None:
    points = np.random.default_rng(seed).integers(-4, 48, (50, 2)) / 2
    annotations = Annotations(Path("x"), (Annotation("a", tuple(some)),))
    expected = np.any([shapely.intersects_xy(polygon, *points.T) for polygon in some], axis=0)
    assert (classes_at(annotations, ["a"], points) == expected).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.7, 1.0, 2.5]), st.booleans())
def test_a_mesh_of_triangles_covers_each_pixel_once(seed: int, step: float, whole: bool) -> None:
    """Every corner and edge inside is shared: no centre falls between two, none into both."""
    points = np.random.default_rng(seed).uniform(0, 40, (30, 2))
    frame = [(0, 0), (40, 0), (0, 40), (40, 40)]
    mesh = shapely.delaunay_triangles(
        shapely.MultiPoint([*(np.rint(points) if whole else points), *frame])
    )
    size = Size(int(40 / step), int(40 / step))
    total = np.zeros((size.height, size.width), int)
    for triangle in mesh.geoms:
        assert isinstance(triangle, Polygon)
        region = Annotations(Path("x"), (Annotation("a", (triangle,)),))
        total += rasterize(region, ["a"], Point(0, 0), size, step)
    assert (total == 1).all()
