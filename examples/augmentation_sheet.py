"""Draws what each augmentation does to crops of your slides: one row a block, one column a draw.

    python examples/augmentation_sheet.py slides/ sheet.png

The first column is the crop as it is. Look at it before you train: what is drawn should still look
like tissue under a microscope.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator, pipeline_def
from pydmed_dali.pipelines import augment

SIZE = 224
CROP_SIZE = augment.crop_size_to_rotate(SIZE)
DRAWS = 7


def middle(image: DataNode) -> DataNode:
    """The middle of the crop, which is larger than what is shown so that it can be rotated."""
    low = (CROP_SIZE - SIZE) // 2
    return image[low : low + SIZE, low : low + SIZE, :]


BLOCKS: dict[str, Callable[[DataNode], DataNode]] = {
    "turn": lambda image: augment.turn(middle(image)),
    "rotate": lambda image: augment.rotate(image, CROP_SIZE, SIZE),
    "colour_jitter": lambda image: augment.colour_jitter(middle(image)),
    "stain_jitter": lambda image: augment.stain_jitter(middle(image)),
    "stain_jitter 0.3": lambda image: augment.stain_jitter(middle(image), 0.3, 0.04),
    "blur": lambda image: augment.blur(middle(image)),
    "noise": lambda image: augment.noise(middle(image)),
    "jpeg": lambda image: augment.jpeg(middle(image)),
    "cutout": lambda image: augment.cutout(middle(image)),
}


@pipeline_def(enable_conditionals=True)
def sheet(source: BigChunkSource) -> tuple[DataNode, ...]:
    """The crop as it is, then out of each block."""
    crops = source.small_chunks()
    blocks = [block(crops.image) for block in BLOCKS.values()]
    return (middle(crops.image), *blocks, crops.label, crops.info)


def draw(slides: Path, target: Path) -> None:
    """One crop of the slides, `DRAWS` times out of each block."""
    # A place is drawn once, and then each crop of the batch is a draw of its own: a chunk as large
    # as the crop leaves one place in it.
    options: dict[str, Any] = {"chunk_size": CROP_SIZE, "crop_size": CROP_SIZE, "min_tissue": 0.8}
    with BigChunkSource(
        Dataset.from_folder(slides), batch_size=DRAWS, crops_per_chunk=DRAWS, resident=1, **options
    ) as source:
        names = ["plain", *BLOCKS, "label", "info"]
        batch = next(iter(SmallChunkIterator(sheet(source), names)))
    figure, axes = plt.subplots(
        len(BLOCKS), DRAWS + 1, figsize=(1.6 * (DRAWS + 1), 1.7 * len(BLOCKS)), layout="constrained"
    )
    for row, name in zip(axes, BLOCKS, strict=True):
        row[0].set_ylabel(name)
        for axis, image in zip(row, [batch["plain"][0], *batch[name]], strict=True):
            axis.imshow(np.asarray(image.cpu()))
            axis.set(xticks=[], yticks=[])
    figure.savefig(target, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw the sheet that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path, help="a folder of slides")
    parser.add_argument("target", type=Path, help="the picture to write, e.g. sheet.png")
    arguments = parser.parse_args()
    draw(arguments.slides, arguments.target)


if __name__ == "__main__":
    main()
