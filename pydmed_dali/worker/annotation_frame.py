"""Where annotations lie: they count from a slide's corner, or from that of what was scanned."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydmed_dali.annotation.annotation import Annotations
from pydmed_dali.annotation.table import PolygonTable
from pydmed_dali.errors import AnnotationError
from pydmed_dali.geometry import Point, Region
from pydmed_dali.slide.slide import SlideFacts

logger = logging.getLogger("pydmed_dali.worker")

_CORNER = {
    "bounds": "from the corner of what was scanned, as QuPath, ImageScope and HALO draw them",
    "slide": "from the corner of the whole slide, as ASAP draws them",
}
_OTHERWISE = "; frame='slide' or 'bounds' says otherwise"


@dataclass(frozen=True, slots=True)
class AnnotationFrame:
    """Where the coordinates of an annotation file begin on its slide."""

    origin: Point
    """The level-0 pixel that is (0, 0) in the file."""
    notice: str = ""
    """What was chosen, for the log; it names no slide. Empty where there was no choice."""


def find_frame(
    file: Path, table: PolygonTable, program: str, facts: SlideFacts, frame: str
) -> AnnotationFrame:
    """Where the polygons of a file lie on its slide.

    Args:
        file: the annotation file, for messages.
        table: its polygons.
        program: the frame of the program that writes such files, `slide` or `bounds`.
        facts: of the slide.
        frame: one of `FRAMES`; `auto` takes that of the program.

    Raises:
        AnnotationError: all polygons lie outside.
    """
    bounds = facts.bounds
    if bounds is None:
        table.refuse_outside(file, facts.dimensions)
        return AnnotationFrame(Point(0, 0))
    chosen = program if frame == "auto" else frame
    extent = bounds.size if chosen == "bounds" else facts.dimensions
    try:
        table.refuse_outside(file, extent)
    except AnnotationError as error:
        what = "what was scanned" if chosen == "bounds" else "the whole slide"
        raise AnnotationError(
            f"{error}; they were taken to count from the corner of {what}{_OTHERWISE}"
        ) from error
    origin = bounds.location if chosen == "bounds" else Point(0, 0)
    if frame != "auto":
        return AnnotationFrame(origin)
    doubt = ""
    if _lies_on(table, bounds, Point(0, 0) if chosen == "bounds" else bounds.location) and (
        not _lies_on(table, bounds, origin)
    ):
        doubt = ", though so some lie beyond what was scanned, and by the other corner none would"
    return AnnotationFrame(origin, f"its annotations count {_CORNER[chosen]}{doubt}{_OTHERWISE}")


def place_annotations(annotations: Annotations, facts: SlideFacts, frame: str) -> Point:
    """The level-0 pixel that is (0, 0) in annotations that were read; see `find_frame`.

    What was chosen, and polygons that lie outside in part, are warned of by logging.
    """
    if facts.bounds is None:
        annotations.check_against(facts.dimensions)
        return Point(0, 0)
    found = find_frame(annotations.path, annotations.table, annotations.frame, facts, frame)
    if found.notice:
        logger.warning("%s: %s", annotations.path, found.notice)
    return found.origin


def _lies_on(table: PolygonTable, bounds: Region, origin: Point) -> bool:
    """Whether all polygons lie on what was scanned, if they count from `origin`."""
    shift = np.array((origin.x, origin.y))
    left, top = table.boxes[:, :2].min(axis=0) + shift
    right, bottom = table.boxes[:, 2:].max(axis=0) + shift
    corner, size = bounds.location, bounds.size
    return bool(
        left >= corner.x
        and top >= corner.y
        and right <= corner.x + size.width
        and bottom <= corner.y + size.height
    )
