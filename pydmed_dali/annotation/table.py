"""The polygons of one slide as a few arrays: small, quickly kept and loaded, without objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from pydmed_dali.errors import AnnotationError
from pydmed_dali.geometry import Size

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in level-0 pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class PolygonTable:
    """Polygons in level-0 pixels: of n polygons with r rings and c corners."""

    classes: tuple[str, ...]
    """The names of the classes."""
    numbers: NDArray[np.int32]
    """(n,): the class of each polygon, a position in `classes`."""
    boxes: Floats
    """(n, 4): left, top, right, bottom of each polygon."""
    first: Integers
    """(n + 1,): where the corners of each polygon begin, and where the last ones end."""
    rings: Integers
    """(r + 1,): where the corners of each ring begin, and where the last ones end."""
    corners: Floats
    """(c, 2): (x, y), ring after ring, the first of a ring again at its end. Outer rings run one
    way round and holes the other."""

    @classmethod
    def of(
        cls, classes: Sequence[str], numbers: Sequence[int], polygons: Sequence[Polygon]
    ) -> PolygonTable:
        """The table of valid polygons; `numbers` has the class of each, a position in `classes`."""
        rings, owner = shapely.get_rings(shapely.orient_polygons(polygons), return_index=True)
        corners, ring = shapely.get_coordinates(rings, return_index=True)
        borders = np.searchsorted(ring, np.arange(len(rings) + 1)).astype(np.int64)
        outer = np.searchsorted(owner, np.arange(len(polygons) + 1))
        boxes = shapely.bounds(polygons)
        return cls(
            tuple(classes), np.array(numbers, np.int32), boxes, borders[outer], borders, corners
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> PolygonTable:
        """What `to_bytes` made."""
        with np.load(BytesIO(data)) as arrays:
            names = json.loads(arrays["classes"].tobytes())
            rest = {name: arrays[name] for name in cls.__slots__ if name != "classes"}
        return cls(tuple(names), **rest)

    def to_bytes(self) -> bytes:
        """The table, for `from_bytes`."""
        names = np.frombuffer(json.dumps(self.classes).encode(), np.uint8)
        arrays = {name: getattr(self, name) for name in self.__slots__ if name != "classes"}
        file = BytesIO()
        np.savez(file, allow_pickle=False, classes=names, **arrays)
        return file.getvalue()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return sum(getattr(self, name).nbytes for name in self.__slots__ if name != "classes")

    @property
    def span(self) -> str:
        """From where to where polygons lie, in words."""
        left, top = self.boxes[:, :2].min(axis=0)
        right, bottom = self.boxes[:, 2:].max(axis=0)
        return f"x {left:g}..{right:g}, y {top:g}..{bottom:g}"

    def find(self, class_name: str, box: Box) -> Integers:
        """The polygons of a class whose boxes touch a box, ascending."""
        if class_name not in self.classes:
            return np.empty(0, np.int64)
        near = self._touch(box) & (self.numbers == self.classes.index(class_name))
        return np.flatnonzero(near)

    def edges(self, polygons: Integers) -> tuple[Floats, Floats]:
        """(start, end), (e, 2) each: the edges of some polygons."""
        begin, end = self.first[polygons], self.first[polygons + 1]
        counts = end - begin
        chosen = np.arange(counts.sum()) + np.repeat(begin - np.cumsum(counts) + counts, counts)
        ring = np.searchsorted(self.rings, chosen, "right")
        joined = ring[1:] == ring[:-1]
        corners = self.corners[chosen]
        return corners[:-1][joined], corners[1:][joined]

    def polygon(self, number: int) -> Polygon:
        """One of the polygons."""
        begin, end = np.searchsorted(self.rings, self.first[number : number + 2]).tolist()
        borders = self.rings[begin : end + 1].tolist()
        outer, *holes = [self.corners[a:b] for a, b in pairwise(borders)]
        return Polygon(outer, holes)

    def refuse_outside(self, path: Path, dimensions: Size) -> tuple[int, int]:
        """How many polygons lie outside a slide, and how many across its edge.

        Raises `AnnotationError`, naming the file at `path`, where all lie outside.
        """
        box = (0.0, 0.0, float(dimensions.width), float(dimensions.height))
        within = (self.boxes[:, :2] >= box[:2]).all(axis=1)
        within &= (self.boxes[:, 2:] <= box[2:]).all(axis=1)
        slide = shapely.box(*box)
        doubtful = np.flatnonzero(self._touch(box) & ~within).tolist()
        across = sum(bool(shapely.intersects(slide, self.polygon(n))) for n in doubtful)
        outside = len(self) - int(within.sum()) - across
        if outside == len(self):
            raise AnnotationError(
                f"{path}: all {outside} polygons ({self.span}) lie outside the slide of "
                f"{dimensions} pixels: an annotation of another slide, or not in level-0 pixels"
            )
        return outside, across

    def _touch(self, box: Box) -> NDArray[np.bool_]:
        left, top, right, bottom = self.boxes.T
        touch: NDArray[np.bool_] = (left <= box[2]) & (right >= box[0])
        touch &= (top <= box[3]) & (bottom >= box[1])
        return touch
