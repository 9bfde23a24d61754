"""Provenance: the columns of `info`, and what a row of it means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydmed_dali.dataset import Dataset, Patient, Record
from pydmed_dali.geometry import Point, Size
from pydmed_dali.worker.annotation_plan import AnnotationPlan

PICOMETRES = 1_000_000
"""Picometres in a micrometre."""


class InfoColumn(IntEnum):
    """The columns of `info`, an (N, 24) int64 array: one row a crop.

    What they say is what DALI cut: the same integers went into both.
    """

    BATCH = 0
    """Number of the batch, from 0; in a finite source, of the batch in its run."""
    PATIENT = 1
    """Position in `Dataset.patients`."""
    SLIDE = 2
    """Position in `Dataset.slides`."""
    CHUNK = 3
    """The plan's visit, over all ranks: which BigChunk."""
    CROP = 4
    """Number of the crop in its BigChunk, 0..crops_per_chunk-1."""
    ATTEMPT = 5
    """0 as planned; above 0 where another place or slide stood in for one that cannot be read."""
    LEVEL = 6
    """The level of the file that was read."""
    X = 7
    """Left edge of the crop, in level-0 pixels."""
    Y = 8
    """Upper edge of the crop, in level-0 pixels."""
    WIDTH = 9
    """Width of the crop, in its own pixels."""
    HEIGHT = 10
    """Height of the crop, in its own pixels."""
    LEVEL0_WIDTH = 11
    """Width of the crop, in level-0 pixels."""
    LEVEL0_HEIGHT = 12
    """Height of the crop, in level-0 pixels."""
    MPP_PM = 13
    """Effective picometres (1e-6 micrometres) per pixel of the crop, horizontally; 0 if unknown."""
    CHUNK_X = 14
    """Left edge of the BigChunk, in level-0 pixels."""
    CHUNK_Y = 15
    """Upper edge of the BigChunk, in level-0 pixels."""
    CHUNK_LEVEL0_WIDTH = 16
    """Width of what of the BigChunk lies on the slide, in level-0 pixels; of a `TileSource`, of
    all its tiles, also where they reach beyond the slide."""
    CHUNK_LEVEL0_HEIGHT = 17
    """Height, as `CHUNK_LEVEL0_WIDTH`."""
    VALID = 18
    """1, or 0 for the copies that fill a batch of a finite source."""
    CLASS = 19
    """Number of the class that the crop was drawn for, 0 for the rest; -1 where crops are not drawn
    by class."""
    Z = 20
    """First slice of the crop, of a volume; 0 of a slide."""
    DEPTH = 21
    """Slices of the crop; 1 of a slide."""
    CHUNK_Z = 22
    """First slice of the BigChunk."""
    CHUNK_DEPTH = 23
    """Slices of the BigChunk, also where they reach beyond the volume."""


@dataclass(frozen=True, slots=True)
class CropInfo:
    """Where one crop came from."""

    patient: Patient
    record: Record
    """The slide, with its path and the infos it was given."""
    chunk: int
    """The plan's visit, over all ranks."""
    crop: int
    """Number of the crop in its chunk."""
    location: Point
    """Top left corner, in level-0 pixels."""
    size: Size
    """Extent in the crop's own pixels."""
    level0_size: Size
    """Extent in level-0 pixels."""
    chunk_location: Point
    """Top left corner of the BigChunk it was cut from, in level-0 pixels."""
    chunk_level0_size: Size
    """Extent of what of that BigChunk lies on the slide, in level-0 pixels."""
    level: int
    """The level of the file that was read."""
    mpp: float | None
    """Effective micrometres per pixel of the crop, by `default_mpp` where the file does not tell;
    None where there is none."""
    requested_mpp: float | None
    """What the source was asked for, None where that was a level or a magnification."""
    substituted: bool
    """Whether it stood in for a place, or a slide, that cannot be read."""
    class_name: str | None = None
    """The class that it was drawn for, in which its centre lies; `rest` for none of the classes,
    None where crops are not drawn by class."""
    first_slice: int = 0
    """Of a volume; 0 of a slide."""
    depth: int = 1
    """Slices; 1 of a slide."""


def to_numpy(info: ArrayLike) -> NDArray[np.int64]:
    """`info` as it comes out of a pipeline, a torch tensor on any device, as a numpy array."""
    on_cpu = info.cpu() if hasattr(info, "cpu") else info
    return np.asarray(on_cpu, np.int64)


def describe(
    row: NDArray[np.int64],
    dataset: Dataset,
    requested_mpp: float | None,
    annotated: AnnotationPlan | None = None,
) -> CropInfo:
    """What one row of `info` means."""
    value = {column: int(row[column]) for column in InfoColumn}
    return CropInfo(
        patient=dataset.patients[value[InfoColumn.PATIENT]],
        record=dataset.slides[value[InfoColumn.SLIDE]],
        chunk=value[InfoColumn.CHUNK],
        crop=value[InfoColumn.CROP],
        location=Point(value[InfoColumn.X], value[InfoColumn.Y]),
        size=Size(value[InfoColumn.WIDTH], value[InfoColumn.HEIGHT]),
        level0_size=Size(value[InfoColumn.LEVEL0_WIDTH], value[InfoColumn.LEVEL0_HEIGHT]),
        chunk_location=Point(value[InfoColumn.CHUNK_X], value[InfoColumn.CHUNK_Y]),
        chunk_level0_size=Size(
            value[InfoColumn.CHUNK_LEVEL0_WIDTH], value[InfoColumn.CHUNK_LEVEL0_HEIGHT]
        ),
        level=value[InfoColumn.LEVEL],
        mpp=value[InfoColumn.MPP_PM] / PICOMETRES if value[InfoColumn.MPP_PM] else None,
        requested_mpp=requested_mpp,
        substituted=value[InfoColumn.ATTEMPT] > 0,
        class_name=annotated.name_of(value[InfoColumn.CLASS]) if annotated else None,
        first_slice=value[InfoColumn.Z],
        depth=value[InfoColumn.DEPTH],
    )
