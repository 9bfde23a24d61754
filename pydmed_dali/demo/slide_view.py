"""One slide as the picture shows it: a thumbnail, the BigChunks read, the SmallChunks taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali import BigChunkSource, InfoColumn
from pydmed_dali.demo.crop_recorder import CropRecorder
from pydmed_dali.demo.thumbnail import thumbnail
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader

_LONGEST = 640  # of a thumbnail, in pixels


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in level-0 pixels."""

    location: Point
    size: Size


@dataclass(frozen=True, slots=True)
class SlideView:
    """A slide and what was taken of it. All places are in level-0 pixels."""

    name: str
    """The file's name."""
    caption: str
    """Its class, or its name where there are no classes."""
    size: Size
    pixels: Pixels | None
    """The thumbnail; None where there can be none."""
    chunks: tuple[Box, ...]
    """Where the BigChunks lie that were read."""
    centres: NDArray[np.float64]
    """(M, 2): (x, y) of the middle of each crop."""
    used: NDArray[np.bool_]
    """(M,): which crops were not left out."""


def view_slides(source: BigChunkSource, trail: CropRecorder, most: int) -> list[SlideView]:
    """The slides of which crops were taken; at most `most` of them, evenly chosen."""
    slides = np.unique(trail.rows[:, InfoColumn.SLIDE])
    if len(slides) > most:
        slides = slides[np.linspace(0, len(slides) - 1, most).round().astype(int)]
    return [_view(source, trail, slide) for slide in slides.tolist()]


def caption(source: BigChunkSource, row: NDArray[np.int64]) -> str:
    """The class of the crop that a row of `info` tells of; its slide's name without classes."""
    (crop,) = source.describe(row)
    return crop.record.path.name if crop.patient.label is None else str(crop.patient.label)


def _view(source: BigChunkSource, trail: CropRecorder, slide: int) -> SlideView:
    record = source.dataset.slides[slide]
    mine = trail.rows[:, InfoColumn.SLIDE] == slide
    rows = trail.rows[mine]
    corners, sizes = (
        rows[:, InfoColumn.X : InfoColumn.Y + 1],
        rows[:, InfoColumn.LEVEL0_WIDTH : InfoColumn.MPP_PM],
    )
    opened = BigChunkLoader().open_slide(record.path)
    try:
        return SlideView(
            name=record.path.name,
            caption=caption(source, rows[0]),
            size=opened.facts.dimensions,
            pixels=thumbnail(opened, _LONGEST),
            chunks=_chunks(rows),
            centres=corners + sizes / 2,
            used=trail.used[mine],
        )
    finally:
        opened.close()


def _chunks(rows: NDArray[np.int64]) -> tuple[Box, ...]:
    places = np.unique(rows[:, InfoColumn.CHUNK_X : InfoColumn.VALID], axis=0).tolist()
    return tuple(Box(Point(x, y), Size(width, height)) for x, y, width, height in places)
