"""The annotations of one slide."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import shapely
from shapely import Polygon, STRtree

from pydmed_dali.annotation.class_names import (
    check_classes,
    refuse_unknown,
    warn_of_spellings,
)
from pydmed_dali.errors import AnnotationError
from pydmed_dali.geometry import Size
from pydmed_dali.wording import some

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
                f"{len(self.polygons)} are invalid or empty ({some(wrong) or 'none is given'}); "
                "shapely.make_valid repairs them"
            )


@dataclass(frozen=True)
class Annotations:
    """All annotated regions of one slide, in the order of the file."""

    path: Path
    """The annotation file, for messages."""
    regions: tuple[Annotation, ...]
    """At least one."""

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
        return {
            name: float(shapely.union_all(self.trees[name].geometries).area)
            for name in self.classes
        }

    @cached_property
    def trees(self) -> dict[str, STRtree]:
        """The polygons of each class, to be searched by place."""
        polygons: dict[str, list[Polygon]] = {}
        for region in self.regions:
            polygons.setdefault(region.class_name, []).extend(region.polygons)
        return {name: STRtree(found) for name, found in polygons.items()}

    def check_against(self, dimensions: Size) -> None:
        """Compare with the extent of the slide, in level-0 pixels.

        Raises `AnnotationError` when all polygons lie outside: these are annotations of another
        slide. Polygons that lie outside in part, as drawn beyond the edge, are warned of by
        logging.
        """
        slide = shapely.box(0, 0, dimensions.width, dimensions.height)
        shapely.prepare(slide)
        polygons = [polygon for region in self.regions for polygon in region.polygons]
        outside = int(shapely.disjoint(slide, polygons).sum())
        across = len(polygons) - int(shapely.covers(slide, polygons).sum()) - outside
        left, top, right, bottom = shapely.total_bounds(polygons)
        span = f"x {left:g}..{right:g}, y {top:g}..{bottom:g}"
        if outside == len(polygons):
            raise AnnotationError(
                f"{self.path}: all {outside} polygons ({span}) lie outside the slide of "
                f"{dimensions} pixels: an annotation of another slide, or not in level-0 pixels"
            )
        if outside or across:
            logger.warning(
                "%s: of %d polygons (%s) %d lie outside the slide of %s pixels, %d across its edge",
                *(self.path, len(polygons), span, outside, dimensions, across),
            )


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
