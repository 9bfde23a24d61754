"""The annotations of one slide."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from shapely import Polygon, STRtree

from pydmed_dali.annotation.class_names import (
    check_classes,
    refuse_unknown,
    warn_of_spellings,
)
from pydmed_dali.annotation.table import PolygonTable
from pydmed_dali.errors import AnnotationError
from pydmed_dali.geometry import Size
from pydmed_dali.text import shorten_list

logger = logging.getLogger("pydmed_dali.annotation")


@dataclass(frozen=True)
class Annotation:
    """One annotated region. Raises `AnnotationError` for polygons that are none."""

    class_name: str
    """What it is a region of; `Unclassified` where the file does not say."""
    polygons: tuple[Polygon, ...]
    """At least one valid polygon, with its holes: (x, y) in level-0 pixels, the top left corner of
    the slide's first pixel at (0, 0)."""
    name: str = ""
    """The name of this very region in the file, often empty."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "polygons", tuple(self.polygons))
        wrong = [
            shapely.is_valid_reason(polygon)
            for polygon in self.polygons
            if not isinstance(polygon, Polygon) or polygon.is_empty or not polygon.is_valid
        ]
        if wrong or not self.polygons:
            raise AnnotationError(
                f"a region of class {self.class_name!r} needs valid polygons, but {len(wrong)} of "
                f"{len(self.polygons)} are invalid or empty ("
                f"{shorten_list(wrong) or 'none is given'}); shapely.make_valid repairs them"
            )

    @classmethod
    def of_valid(cls, class_name: str, polygons: tuple[Polygon, ...], name: str) -> Annotation:
        """A region of polygons that are known to be valid: looking at each takes longest."""
        made = object.__new__(cls)
        for field, value in (("class_name", class_name), ("polygons", polygons), ("name", name)):
            object.__setattr__(made, field, value)
        return made


@dataclass(frozen=True)
class Annotations:
    """All annotated regions of one slide, in the order of the file."""

    path: Path
    """The annotation file, for messages."""
    regions: tuple[Annotation, ...]
    """At least one."""
    frame: str = "slide"
    """Where (0, 0) is in the program that writes such files: the corner of the whole `slide`, or of
    its scanned `bounds`. Coordinates are the file's own either way."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "regions", tuple(self.regions))
        if not self.regions:
            raise AnnotationError(f"{self.path}: no annotated region")

    def __len__(self) -> int:
        return len(self.regions)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The distinct classes, sorted."""
        return tuple(sorted({region.class_name for region in self.regions}))

    @cached_property
    def areas(self) -> dict[str, float]:
        """The area of each class in level-0 pixels; where regions overlap, it counts once."""
        return {name: _area_of_union(self.trees[name]) for name in self.classes}

    @cached_property
    def trees(self) -> dict[str, STRtree]:
        """The polygons of each class, to be searched by place."""
        polygons: dict[str, list[Polygon]] = {}
        for region in self.regions:
            polygons.setdefault(region.class_name, []).extend(region.polygons)
        return {name: STRtree(found) for name, found in polygons.items()}

    @cached_property
    def table(self) -> PolygonTable:
        """The polygons as arrays."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        polygons = [polygon for region in self.regions for polygon in region.polygons]
        of_class = [numbers[region.class_name] for region in self.regions for _ in region.polygons]
        return PolygonTable.of(self.classes, of_class, polygons)

    def check_against(self, dimensions: Size) -> None:
        """Compare with the extent of the slide, in level-0 pixels.

        Raises `AnnotationError` when all polygons lie outside: these are annotations of another
        slide. Polygons that lie outside in part, as drawn beyond the edge, are warned of by
        logging.
        """
        outside, across = self.table.refuse_outside(self.path, dimensions)
        if outside or across:
            logger.warning(
                "%s: of %d polygons (%s) %d lie outside the slide of %s pixels, %d across its edge",
                *(self.path, len(self.table), self.table.span, outside, dimensions, across),
            )


def _area_of_union(tree: STRtree) -> float:
    """The area that polygons cover together; only those that touch others are united."""
    polygons = tree.geometries
    one, other = tree.query(polygons, predicate="intersects")
    touching = np.zeros(len(polygons), np.bool_)
    touching[one[one != other]] = True
    apart = shapely.area(polygons[~touching])
    return math.fsum([*apart.tolist(), float(shapely.union_all(polygons[touching]).area)])


def require_classes(annotations: Iterable[Annotations], classes: Sequence[str]) -> None:
    """Make sure that each class occurs in one file at least.

    A class that is misspelt would otherwise give masks without it. Raises `AnnotationError` with
    the classes that there are, and warns of classes that are probably one of these in another
    spelling.
    """
    check_classes(classes)
    counts = Counter(region.class_name for one in annotations for region in one.regions)
    refuse_unknown(classes, counts)
    warn_of_spellings(classes, counts)
