"""Self-crossing polygons: repaired, as far as that ends."""

from __future__ import annotations

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon, STRtree
from shapely.geometry.base import BaseGeometry

from pydmed_dali.annotation.defaults import MOST_CROSSINGS
from pydmed_dali.errors import AnnotationError

_SEGMENTS_AT_ONCE = 64


class Repairs:
    """Repairs the polygons of one file, which together may cross themselves so often."""

    def __init__(self) -> None:
        self._left = MOST_CROSSINGS

    def parts(self, polygon: Polygon, where: str) -> list[Polygon]:
        """The valid polygons that cover what the polygon covers; none for corners on a line.

        Raises `AnnotationError`, naming the outline `where`, for a scribble.
        """
        self._left -= _crossings(polygon, self._left)
        if self._left < 0:
            raise AnnotationError(
                f"{where}: it crosses itself too often to be the outline of a region, with the "
                f"outlines before it more than {MOST_CROSSINGS:,} times; draw it anew, or take it "
                "out of the file"
            )
        return parts_of(shapely.make_valid(polygon, method="structure", keep_collapsed=False))


def parts_of(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons in a geometry; points and lines that an operation left are dropped."""
    if isinstance(geometry, Polygon):
        return [geometry] if geometry.area else []
    if isinstance(geometry, MultiPolygon) or geometry.geom_type == "GeometryCollection":
        return [part for member in shapely.get_parts(geometry) for part in parts_of(member)]
    return []


def _crossings(polygon: Polygon, most: int) -> int:
    """How often segments of the outline meet others than their neighbours.

    Counting ends soon after `most`.
    """
    corners, ring = shapely.get_coordinates(shapely.get_rings(polygon), return_index=True)
    joined = ring[1:] == ring[:-1]
    ends = np.stack([corners[:-1][joined], corners[1:][joined]], axis=1)
    segments = np.asarray(shapely.linestrings(ends))
    tree = STRtree(segments)
    met = 0
    for begin in range(0, len(segments), _SEGMENTS_AT_ONCE):
        some = segments[begin : begin + _SEGMENTS_AT_ONCE]
        met += len(tree.query(some, predicate="intersects")[0]) - 3 * len(some)
        if met > 2 * most:
            break
    return max(met, 0) // 2
