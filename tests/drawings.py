"""Annotations for tests: files, pipelines that give out masks, and the truth to compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from nvidia.dali.data_node import DataNode
from shapely import Polygon

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator, pipeline_def
from tests.support import Batch, first

Drawing = Sequence[tuple[str, Polygon]]
"""Class and polygon of each region; no corner or edge on the middle of a pixel."""

OUTPUTS = ["image", "mask", "class_number", "label", "info"]
CLASSES = ("tumor", "stroma")
SHARES = {"tumor": 0.5, "stroma": 0.3}

DRAWINGS: tuple[Drawing, ...] = (
    (
        (
            "tumor",
            Polygon(
                [(100.3, 80.7), (900.1, 120.2), (840.9, 860.4), (90.6, 700.6)],
                [[(300.2, 300.3), (420.4, 310.7), (350.9, 440.1)]],
            ),
        ),
        ("stroma", Polygon([(500.4, 400.1), (1400.7, 420.2), (1100.3, 1200.7)])),
        ("other", Polygon([(10.3, 1000.1), (400.2, 1001.7), (200.4, 1270.3)])),
    ),
    (
        ("stroma", Polygon([(30.2, 20.1), (610.4, 33.7), (580.1, 340.8), (41.7, 333.3)])),
        ("tumor", Polygon([(1000.1, 700.2), (1533.7, 640.9), (1500.2, 1275.4), (930.8, 1200.3)])),
    ),
)


@pipeline_def
def masked(source: BigChunkSource) -> tuple[DataNode, ...]:
    """All that a source with annotations gives."""
    crops = source.small_chunks()
    return crops.image, crops.mask, crops.class_number, crops.label, crops.info


def take_masked(source: BigChunkSource, batches: int) -> list[Batch]:
    """The first batches of a source, with masks."""
    return list(first(SmallChunkIterator(masked(source), OUTPUTS), batches))


def join(batches: list[Batch]) -> dict[str, NDArray[Any]]:
    """The batches' outputs, one after the other."""
    return {n: np.concatenate([batch[n].cpu().numpy() for batch in batches]) for n in batches[0]}


def write_geojson(path: Path, drawing: Drawing) -> Path:
    """A file as QuPath writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(polygon),
            "properties": {"classification": {"name": name}},
        }
        for name, polygon in drawing
    ]
    path.write_text(json.dumps(features))
    return path


def annotate(dataset: Dataset, folder: Path) -> dict[Path, Drawing]:
    """Annotation files for all slides but the last, named as the slides; and what is on them."""
    drawn = {}
    for number, record in enumerate(dataset.slides[:-1]):
        drawn[record.path] = DRAWINGS[number % len(DRAWINGS)]
        write_geojson((folder / record.relative).with_suffix(".geojson"), drawn[record.path])
    return drawn


def expected_mask(
    drawing: Drawing, row: NDArray[np.int64], downsample: float, classes: Sequence[str] = CLASSES
) -> NDArray[np.uint8]:
    """The mask of a crop, asked of shapely for each pixel; `row` is the crop's of `info`."""
    # Places are rounded to pixels of level 0, which are no larger than the crop's.
    left, top = (round(int(row[column]) / downsample) for column in (InfoColumn.X, InfoColumn.Y))
    y, x = np.indices((int(row[InfoColumn.HEIGHT]), int(row[InfoColumn.WIDTH]))) + 0.5
    x, y = (left + x) * downsample, (top + y) * downsample
    mask = np.zeros(x.shape, np.uint8)
    for number, name in enumerate(classes, 1):
        for class_name, polygon in drawing:
            if class_name == name:
                mask[shapely.contains_xy(polygon, x, y)] = number
    return mask


def assert_masks(
    dataset: Dataset, drawn: Mapping[Path, Drawing], batch: Batch, downsample: float
) -> None:
    """Every mask is what was drawn there, and the class is that of the crop's centre."""
    masks, infos = batch["mask"].cpu().numpy(), batch["info"].numpy()
    for mask, number, row in zip(masks, batch["class_number"].tolist(), infos, strict=True):
        drawing = drawn.get(dataset.slides[row[InfoColumn.SLIDE]].path, ())
        np.testing.assert_array_equal(mask[:, :, 0], expected_mask(drawing, row, downsample))
        assert number == mask[mask.shape[0] // 2, mask.shape[1] // 2, 0]
        assert row[InfoColumn.CLASS] in (-1, number)
