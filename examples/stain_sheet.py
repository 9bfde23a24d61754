"""Draws crops of your slides as they are, and normalised to one of them: one row a slide.

    python examples/stain_sheet.py slides/ slides/reference.svs sheet.png

The columns are the crop as it is, then Macenko's and Reinhard's normalisation. Look at it before
you choose a target: what is drawn should still look like tissue under a microscope.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from nvidia.dali.data_node import DataNode

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    MacenkoStain,
    ReinhardStain,
    SmallChunkIterator,
    measure_stain,
    pipeline_def,
)
from pydmed_dali.pipelines.augment import macenko, reinhard

SIZE = 320
METHODS = ("macenko", "reinhard")
COLUMNS = ("as it is", "Macenko", "Reinhard")


@pipeline_def
def normalised(
    source: BigChunkSource, target: MacenkoStain | ReinhardStain
) -> tuple[DataNode, ...]:
    """The crop as it is, and normalised to the target."""
    crops = source.small_chunks()
    if isinstance(target, MacenkoStain):
        image = macenko(crops.image, crops.stain, target)
    else:
        image = reinhard(crops.image, crops.stain, target)
    return crops.image, image, crops.label, crops.info


def crops_of(dataset: Dataset, method: str, target: Path) -> dict[str, torch.Tensor]:
    """One crop of each slide; the same ones for every method."""
    options: dict[str, Any] = {"chunk_size": SIZE, "crop_size": SIZE, "min_tissue": 0.7}
    with BigChunkSource(
        dataset,
        batch_size=len(dataset),
        crops_per_chunk=1,
        resident=2 * len(dataset),
        passes=1,
        stain_statistics=method,
        **options,
    ) as source:
        pipeline = normalised(source, measure_stain(target, method))
        return next(iter(SmallChunkIterator(pipeline, ["plain", "normal", "label", "info"])))


def draw(slides: Path, target: Path, picture: Path) -> None:
    """A row for each slide of the folder."""
    dataset = Dataset.from_folder(slides)
    batches = {method: crops_of(dataset, method, target) for method in METHODS}
    first = batches[METHODS[0]]
    columns = [first["plain"], *(batches[method]["normal"] for method in METHODS)]
    rows = len(first["plain"])
    figure, axes = plt.subplots(
        rows, len(columns), figsize=(2.4 * len(columns), 2.5 * rows), squeeze=False
    )
    for place, row in enumerate(axes):
        record = dataset.slides[int(first["info"][place, InfoColumn.SLIDE])]
        mark = " (target)" if record.path.name == target.name else ""
        row[0].set_ylabel(record.path.stem[:24] + mark, fontsize=7)
        for axis, name, images in zip(row, COLUMNS, columns, strict=True):
            axis.imshow(np.asarray(images[place].cpu()))
            axis.set(xticks=[], yticks=[])
            if place == 0:
                axis.set_title(name)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw the sheet that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path, help="a folder of slides")
    parser.add_argument("target", type=Path, help="the slide that all shall look like")
    parser.add_argument("picture", type=Path, help="the picture to write, e.g. sheet.png")
    arguments = parser.parse_args()
    draw(arguments.slides, arguments.target, arguments.picture)


if __name__ == "__main__":
    main()
