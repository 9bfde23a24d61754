"""Scores of overlapping tiles, blended to one picture of a slide's classes."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import ResultError
from pydmed_dali.infer.class_map import UNCOVERED, Classes
from pydmed_dali.infer.collector import Features
from pydmed_dali.text import format_gib

_ROWS = 64  # that are in memory at a time, when sums become classes

Weights = NDArray[np.float32]

WINDOWS = ("hann", "mean")


def blending_weights(window: str, height: int, width: int) -> Weights:
    """(height, width): how much each pixel of a tile counts where tiles overlap.

    `mean` counts all alike. `hann` counts those in a tile's middle, which know most of what is
    around them, more than those at its edge (N. Pielawski and C. Waehlby, "Introducing Hann windows
    for reducing edge-effects in patch-based image segmentation", PLoS ONE 15, 2020).
    """
    if window == "mean":
        return np.ones((height, width), np.float32)
    down, across = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    weights: Weights = np.outer(down, across).astype(np.float32)
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Of some rows of a picture, with what tiles reach beyond it."""

    scores: NDArray[np.float32]
    """(rows, across, K): of weighted scores."""
    weights: Weights
    """(rows, across): of weights."""


class Stitcher:
    """Blends the scores of tiles that come row of chunks after row of chunks, down a picture.

    Sums are kept of so many rows as tiles to come can touch; of those above only the class with the
    highest score. Both lie in unnamed files of a folder: nothing of a picture's size is in memory.
    """

    def __init__(
        self,
        folder: Path,
        picture: Classes,
        across: int,
        rows: int,
        weights: Weights,
        classes: int,
    ) -> None:
        """`picture` is to be filled, in place. `across` and `rows` are what tiles reach over: to
        the right, beyond the picture too, and downwards, at a time.
        """
        self._weights, self._top, self._classes = weights, 0, picture
        self._sums = _unnamed(folder, (rows, across, classes))
        self._total = _unnamed(folder, (rows, across))

    def add(self, x: int, y: int, scores: Features) -> None:
        """Add a tile, (K, height, width), whose corner is at (x, y) of the picture."""
        height, width = scores.shape[1:]
        top = y - self._top
        place = (slice(top, top + height), slice(x, x + width))
        self._sums[place] += (scores * self._weights).transpose(1, 2, 0)
        self._total[place] += self._weights

    def finish(self, until: int) -> None:
        """No tile that comes touches the rows of the picture above `until` any more."""
        done, width = until - self._top, self._classes.shape[1]
        for first in range(0, min(done, len(self._sums)), _ROWS):
            rows = slice(first, min(first + _ROWS, done))
            scores = np.asarray(self._sums[rows])[:, :width]
            covered = np.asarray(self._total[rows])[:, :width] > 0
            # The weights' sum is the same for all classes: the highest sum is the highest mean.
            best = np.where(covered, scores.argmax(axis=-1), UNCOVERED)
            target = self._classes[self._top + first :][: len(best)]
            target[:] = best[: len(target)]
        self._classes[self._top + len(self._sums) : until] = UNCOVERED  # where no tile came at all
        for kept in (self._sums, self._total):
            for first in range(0, len(kept), _ROWS):
                moved = kept[first + done :][: len(kept[first : first + _ROWS])]
                kept[first : first + len(moved)] = moved
                kept[first + len(moved) : first + _ROWS] = 0
        self._top = until

    def classes(self) -> Classes:
        """(height, width): the class of each pixel of the picture, once no tile is left."""
        self.finish(len(self._classes))
        return self._classes

    def sums(self, rows: int) -> Sums:
        """Of the first rows that are not finished: what the tiles so far gave them."""
        return Sums(np.array(self._sums[:rows]), np.array(self._total[:rows]))

    def reconfigure(self, top: int, sums: Sums) -> None:
        """Of a picture that an earlier call filled down to `top`."""
        self._top = top
        self._sums[: len(sums.scores)] = sums.scores
        self._total[: len(sums.weights)] = sums.weights

    def close(self) -> None:
        """Let go of the files."""
        del self._sums, self._total, self._classes


@contextmanager
def disk_space_errors(folder: Path, size: int) -> Iterator[None]:
    """Raises `ResultError` for what the system says against so many bytes in the folder."""
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{folder} has no room for the scores of a slide under way, {format_gib(size)} "
            f"({error}); make room, lower chunk_size, or have the model score fewer pixels"
        ) from error


def preallocated_memmap(
    file: IO[bytes], shape: tuple[int, ...], kind: type[np.generic]
) -> NDArray[Any]:
    """An array in a file, whose room is taken at once: a disk that is full only when a mapped page
    is written ends the process. Raises `OSError`.
    """
    os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(kind).itemsize)
    return np.memmap(file, kind, "r+", shape=shape)


def _unnamed(folder: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of float32 in a file of the folder that has no name."""
    with (
        disk_space_errors(folder, math.prod(shape) * 4),
        tempfile.TemporaryFile(dir=folder) as file,
    ):
        return preallocated_memmap(file, shape, np.float32)
