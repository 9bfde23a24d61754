"""Class masks: what annotations say of each pixel of a region, and of single points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

from pydmed_dali.annotation.annotation import Annotations
from pydmed_dali.annotation.class_names import check_classes
from pydmed_dali.annotation.spans import Floats, Mask, find_spans
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size


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
    share an edge leave no gap and share no pixel. See `find_spans` for how.

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
    return find_spans(annotations.table, classes, xs, ys).to_mask()


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
