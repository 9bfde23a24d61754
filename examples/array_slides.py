"""Trains from slides that are arrays: a `.npy` file, or a Zarr group with an array for each level.

    python examples/array_slides.py stacks/

Each is (height, width, channels), uint8 RGB unless `ArrayLoader` is given another `PixelFormat`,
which must be that of all stacks; beyond their edges such pixels are 0. The levels of a Zarr group
are its arrays `0` (the finest), `1`, ...; its attribute `mpp`, if there is one, gives micrometres
per pixel of `0`, as [x, y]. It prints what comes out of a pipeline: copy `ArraySlide` and
`ArrayLoader` into a program of yours.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    Patient,
    PixelFormat,
    Point,
    Record,
    Size,
    Slide,
    SlideFacts,
    SmallChunkIterator,
)
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.slide.pixel_format import RGB8
from pydmed_dali.slide.slide import WHITE


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

    def read_into(self, out: NDArray[Any], location: Point, level: int) -> None:
        """See `Slide.read_into`: beyond the array there is background."""
        array, downsample = self._levels[level], self.facts.level_downsamples[level]
        top, left = round(location.y / downsample), round(location.x / downsample)
        height, width = out.shape[:2]
        rows = slice(max(top, 0), min(top + height, array.shape[0]))
        columns = slice(max(left, 0), min(left + width, array.shape[1]))
        is_rgb8 = (array.shape[2], array.dtype) == (3, np.uint8)
        out[:] = self.facts.background if is_rgb8 else 0
        if rows.start < rows.stop and columns.start < columns.stop:
            inside = out[rows.start - top : rows.stop - top, columns.start - left :]
            inside[:, : columns.stop - columns.start] = array[rows, columns]

    def close(self) -> None:
        """Let go of the arrays."""
        self._levels = []


class ArrayLoader(BigChunkLoader):
    """Opens `.npy` files and Zarr groups; what reads a BigChunk of them is there already."""

    def __init__(self, pixel_format: PixelFormat = RGB8) -> None:
        self.pixel_format = pixel_format

    def open_slide(self, path: Path) -> Slide:
        """Called in the worker that reads. What it raises has the slide skipped and reported."""
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            self._check(path, array)
            return ArraySlide(path, [array], None, None)
        group: Any = zarr.open_group(path, mode="r")
        levels = [group[str(number)] for number in range(len(list(group.array_keys())))]
        for level in levels:
            self._check(path, level)
        height, width, _ = levels[0].chunks
        mpp = group.attrs.get("mpp")
        return ArraySlide(path, levels, Size(width, height), tuple(mpp) if mpp else None)

    def _check(self, path: Path, array: Any) -> None:
        found = f"{array.shape[2] if array.ndim == 3 else 'no'} x {array.dtype}"
        if found != str(self.pixel_format):
            raise ValueError(
                f"{path} has the shape {array.shape} and pixels of {found}, where (height, width, "
                f"channels) and {self.pixel_format} were expected; give ArrayLoader a PixelFormat"
            )


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
        loader = SmallChunkIterator(classification(source))
        for step, batch in enumerate(loader):
            crop = source.describe(batch["info"][0])[0]
            print(tuple(batch["image"].shape), crop.record.path.name, crop.location)
            if step == 2:
                break


if __name__ == "__main__":
    main()
