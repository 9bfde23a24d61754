"""Class masks: what annotations say of each pixel of a region, and of single points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

from pydmed_dali.annotation.annotation import Annotations, check_classes
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size

Mask = NDArray[np.uint8]
Floats = NDArray[np.float64]


def rasterize(
    annotations: Annotations,
    classes: Sequence[str],
    location: Point,
    size: Size,
    downsample: float | tuple[float, float] = 1.0,
) -> Mask:
    """The class of each pixel of a region, (height, width) uint8.

    0 is what no class covers, 1 the first of `classes`, and so on; where classes overlap, the later
    one wins. `location` is the region's top left corner in level-0 pixels, `size` its extent in
    pixels of the mask, each of `downsample` level-0 pixels (or (x, y) of them).

    A pixel has the class of its centre, exactly; nothing is antialiased. A centre that lies on an
    outline belongs to the side right of it, or below where the outline is level: so regions that
    share an edge leave no gap and share no pixel. By winding numbers along rows (Foley et al.,
    "Computer Graphics", 2nd edition, 1990, section 3.6), all polygons of a class at once.

    Raises `OptionError` for options that are out of range. That a class does not occur is no
    error, since a slide may lack it; see `require_classes`.
    """
    check_classes(classes)
    size = Size.of(size, "size")
    step_x, step_y = downsample if isinstance(downsample, tuple) else (downsample, downsample)
    if not all(step > 0 and math.isfinite(step) for step in (step_x, step_y)):
        raise OptionError(f"downsample must be above 0, not {downsample!r}")
    xs = _centres(location.x, step_x, size.width)
    ys = _centres(location.y, step_y, size.height)
    mask = np.zeros((size.height, size.width), np.uint8)
    region = shapely.box(xs[0], ys[0], xs[-1], ys[-1])
    for number, name in enumerate(classes, 1):
        tree = annotations.trees.get(name)
        if tree is not None:
            _paint(mask, tree.geometries[np.sort(tree.query(region))], xs, ys, number)
    return mask


def classes_at(annotations: Annotations, classes: Sequence[str], points: Floats) -> Mask:
    """The class of each point, (N,) uint8, numbered as by `rasterize`.

    `points` is (N, 2), (x, y) in level-0 pixels, of which the first is centred at (0.5, 0.5). A
    point on an outline lies in the region.
    """
    check_classes(classes)
    points = np.asarray(points, np.float64).reshape(-1, 2)
    numbers = np.zeros(len(points), np.uint8)
    for number, name in enumerate(classes, 1):
        if name in annotations.trees:
            numbers[_covered(annotations.trees[name], points)] = number
    return numbers


def _covered(tree: STRtree, points: Floats) -> NDArray[np.int64]:
    """Positions of the points that lie in one of the tree's polygons, or on its outline."""
    polygons = tree.geometries
    shapely.prepare(polygons)
    point, polygon = tree.query(shapely.points(points))
    found: NDArray[np.int64] = point[shapely.intersects_xy(polygons[polygon], *points[point].T)]
    return found


def _centres(start: int, step: float, count: int) -> Floats:
    return np.asarray(start + (np.arange(count) + 0.5) * step, np.float64)


def _paint(mask: Mask, polygons: NDArray[np.object_], xs: Floats, ys: Floats, number: int) -> None:
    """Set `number` where a centre lies in one of the polygons; looks at their bounds only."""
    if not len(polygons):
        return
    left, top, right, bottom = shapely.total_bounds(polygons)
    columns = slice(*np.searchsorted(xs, (left, right)))
    rows = slice(*np.searchsorted(ys, (top, bottom)))
    mask[rows, columns][_inside(polygons, xs[columns], ys[rows])] = number


def _inside(polygons: NDArray[np.object_], xs: Floats, ys: Floats) -> NDArray[np.bool_]:
    """Which of the centres xs x ys lie in a polygon, (len(ys), len(xs)).

    Outer rings run one way round and holes the other. A row is walked from the left: each edge that
    crosses it adds or takes one, and inside is where the sum is not 0.
    """
    rings = shapely.get_rings(shapely.orient_polygons(polygons))
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    joined = ring[1:] == ring[:-1]
    start, end = corners[:-1][joined], corners[1:][joined]
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
    width = len(xs) + 1
    winding = np.zeros(len(ys) * width, np.int32)
    np.add.at(winding, row * width + np.searchsorted(xs, crossing), np.where(falls, 1, -1)[edge])
    rows = winding.reshape(len(ys), width)
    inside: NDArray[np.bool_] = np.cumsum(rows, axis=1, dtype=np.int32, out=rows)[:, :-1] != 0
    return inside
