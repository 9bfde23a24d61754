"""The picture of a slide that is not finished, on disk, as far as it is final.

A folder of two files: the classes, a byte a pixel, and what else a call needs to go on at a row of
the grid: the sums that the rows above it gave to the pixels below.
"""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Size
from pydmed_dali.infer.class_map import Classes
from pydmed_dali.infer.feature_log import identity_of
from pydmed_dali.infer.result_folder import sync
from pydmed_dali.infer.stitch import Sums, disk_space_errors, preallocated_memmap
from pydmed_dali.slide.file_identity import file_identity

logger = logging.getLogger("pydmed_dali.infer")

_STATE, _CLASSES = "state.npz", "classes"
_BLOCK = 1 << 24  # bytes of a picture that are looked at together


@dataclass(frozen=True, slots=True, eq=False)
class SavedSegmentation:
    """Where a call can go on."""

    row: int
    """Of the grid: the tiles of all rows above are in the picture, or in the sums."""
    columns: int
    """Of the grid."""
    stride: tuple[float, float]
    """(x, y) from one tile to the next, in level-0 pixels."""
    shape: tuple[int, ...]
    """(K, height, width) of what the model said of a tile."""
    picture: Size
    final: int
    """Rows of the picture that do not change any more."""
    checksum: int
    """Of these."""
    identity: bytes
    """Of the slide's file."""

    @property
    def corners(self) -> NDArray[np.int64]:
        """(n, 2): (x, y) of all tiles above the row, in level-0 pixels."""
        down, across = np.indices((self.row, self.columns)).reshape(2, -1)
        places = np.stack([across, down], axis=1) * self.stride
        found: NDArray[np.int64] = np.rint(places).astype(np.int64)
        return found


class SegmentationCheckpoint:
    """The folder of one slide."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, slide: Path) -> SavedSegmentation | None:
        """Where to go on; None where there is nothing whole of the file that lies at `slide` now.

        What is of another file is removed; where no file is to be seen, it stays for when it is.
        """
        present = file_identity(slide)
        if present is None or not self._folder.exists():
            return None
        try:
            with (
                open(self._folder / _STATE, "rb") as file,
                np.load(file, allow_pickle=False) as state,
            ):
                identity = bytes(state["identity"])
                row, columns, width, height, final, checksum, *shape = state["numbers"].tolist()
                x, y = state["stride"].tolist()
                size = Size(width, height)
                saved = SavedSegmentation(
                    row, columns, (x, y), tuple(shape), size, final, checksum, identity
                )
            if identity == identity_of(present) and self._is_whole(saved):
                return saved
        except Exception as error:  # NumPy raises whatever a damaged file leads it to
            logger.debug("%s: it cannot be gone on with (%s)", self._folder, error)
        self.remove()
        return None

    def classes(self, size: Size) -> Classes:
        """The picture; made where it is not there. Raises `ResultError` where there is no room."""
        with disk_space_errors(self._folder, size.area):
            self._folder.mkdir(exist_ok=True)
            mode = "r+b" if self._has_classes(size) else "w+b"
            with open(self._folder / _CLASSES, mode) as file:
                return preallocated_memmap(file, (size.height, size.width), np.uint8)

    def sums(self) -> Sums | None:
        """Of the rows below the one where a call goes on; None where they cannot be read."""
        try:
            with open(self._folder / _STATE, "rb") as file, np.load(file) as state:
                return Sums(state["sums"], state["weights"])
        except Exception as error:  # as in `load`
            logger.debug("%s: it cannot be gone on with (%s)", self._folder, error)
            return None

    def save(self, saved: SavedSegmentation, sums: Sums) -> None:
        """From now on a call goes on here, after a loss of power too.

        A disk that is full is told in the log.
        """
        part = self._folder / f"{_STATE}.part"
        size = (saved.picture.width, saved.picture.height)
        try:
            sync(self._folder / _CLASSES)  # before the state says that it is there
            with part.open("wb") as file:
                np.savez(
                    file,
                    identity=np.frombuffer(saved.identity, np.uint8),
                    numbers=np.array(
                        [saved.row, saved.columns, *size, saved.final, saved.checksum, *saved.shape]
                    ),
                    stride=np.array(saved.stride),
                    sums=sums.scores,
                    weights=sums.weights,
                )
            sync(part)
            os.replace(part, self._folder / _STATE)
            sync(self._folder, alone=True)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            logger.warning("%s: a slide under way is not kept (%s)", self._folder, error)

    def remove_unless_saved(self) -> None:
        """Forget a picture with which no call could go on."""
        if not (self._folder / _STATE).exists():
            self.remove()

    def remove(self) -> None:
        """Forget the picture."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_whole(self, saved: SavedSegmentation) -> bool:
        """Whether the picture is there, and what should be final is what it was."""
        if not self._has_classes(saved.picture):
            return False
        left, found = saved.final * saved.picture.width, 0
        with open(self._folder / _CLASSES, "rb") as file:
            while left and (block := file.read(min(left, _BLOCK))):
                found, left = zlib.crc32(block, found), left - len(block)
        return not left and found == saved.checksum

    def _has_classes(self, size: Size) -> bool:
        file = self._folder / _CLASSES
        return file.exists() and file.stat().st_size == size.area
