"""Trains from slides that are arrays: a `.npy` file, or a Zarr group with an array for each level.

    python examples/array_slides.py stacks/

Each is uint8 RGB, (height, width, 3). The levels of a Zarr group are its arrays `0` (the finest),
`1`, ...; its attribute `mpp`, if there is one, gives micrometres per pixel of `0`, as [x, y]. It
prints what comes out of a pipeline: copy `ArraySlide` and `ArrayLoader` into a program of yours.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    Patient,
    Point,
    Record,
    Size,
    Slide,
    SlideFacts,
    SmallChunkIterator,
)
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.slide.protocol import WHITE, Pixels


class ArraySlide:
    """A slide of arrays, one for each level, that are read where they lie; a `Slide`."""

    def __init__(
        self, path: Path, levels: Sequence[Any], tile: Size | None, mpp: tuple[float, float] | None
    ) -> None:
        sizes = [Size(level.shape[1], level.shape[0]) for level in levels]
        self.path, self._levels = path, levels
        self.facts = SlideFacts(
            level_dimensions=tuple(sizes),
            level_downsamples=tuple(sizes[0].width / size.width for size in sizes),
            tile_sizes=(tile,) * len(sizes),
            mpp=mpp,
            objective_power=None,
            background=WHITE,
            vendor="array",
            reader="array 1",
        )

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        """See `Slide.read_into`: beyond the array there is background."""
        array, downsample = self._levels[level], self.facts.level_downsamples[level]
        top, left = round(location.y / downsample), round(location.x / downsample)
        height, width = out.shape[:2]
        rows = slice(max(top, 0), min(top + height, array.shape[0]))
        columns = slice(max(left, 0), min(left + width, array.shape[1]))
        out[:] = self.facts.background
        if rows.start < rows.stop and columns.start < columns.stop:
            inside = out[rows.start - top : rows.stop - top, columns.start - left :]
            inside[:, : columns.stop - columns.start] = array[rows, columns]

    def close(self) -> None:
        """Let go of the arrays."""
        self._levels = []


class ArrayLoader(BigChunkLoader):
    """Opens `.npy` files and Zarr groups; what reads a BigChunk of them is there already."""

    def open_slide(self, path: Path) -> Slide:
        """Called in the worker that reads. What it raises has the slide skipped and reported."""
        if path.suffix == ".npy":
            return ArraySlide(path, [np.load(path, mmap_mode="r")], None, None)
        group: Any = zarr.open_group(path, mode="r")
        levels = [group[str(number)] for number in range(len(list(group.array_keys())))]
        height, width, _ = levels[0].chunks
        mpp = group.attrs.get("mpp")
        return ArraySlide(path, levels, Size(width, height), tuple(mpp) if mpp else None)


def dataset_of(folder: Path) -> Dataset:
    """A patient for each stack in the folder, labelled by its name without digits."""
    stacks = sorted([*folder.glob("*.npy"), *folder.glob("*.zarr")])
    return Dataset(
        tuple(
            Patient(
                path.name,
                (Record(folder, PurePosixPath(path.name)),),
                label=path.stem.rstrip("0123456789"),
            )
            for path in stacks
        )
    )


def main() -> None:
    """Print some batches' shapes and where their first crops lie."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with BigChunkSource(
        dataset_of(folder), chunk_size=512, crop_size=128, resident=4, loader=ArrayLoader()
    ) as source:
        loader = SmallChunkIterator(classification(source), ["image", "label", "info"])
        for step, batch in enumerate(loader):
            crop = source.describe(batch["info"][0])[0]
            print(tuple(batch["image"].shape), crop.record.path.name, crop.location)
            if step == 2:
                break


if __name__ == "__main__":
    main()
