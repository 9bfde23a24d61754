"""Scores of overlapping tiles, blended to one picture of a slide."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import ResultError
from pydmed_dali.geometry import Size
from pydmed_dali.infer.collector import Features
from pydmed_dali.wording import gib

_ROWS = 512  # of the picture that are in memory at a time, when it is read

WINDOWS = ("hann", "mean")


def blending_weights(window: str, height: int, width: int) -> NDArray[np.float32]:
    """(height, width): how much each pixel of a tile counts where tiles overlap.

    `mean` counts all alike. `hann` counts those in a tile's middle, which know most of what is
    around them, more than those at its edge (N. Pielawski and C. Waehlby, "Introducing Hann windows
    for reducing edge-effects in patch-based image segmentation", PLoS ONE 15, 2020).
    """
    if window == "mean":
        return np.ones((height, width), np.float32)
    down, across = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    weights: NDArray[np.float32] = np.outer(down, across).astype(np.float32)
    return weights


class Stitcher:
    """Sums of weighted scores, in unnamed files of a folder: no picture of them is held whole."""

    def __init__(
        self, folder: Path, size: Size, classes: int, weights: NDArray[np.float32]
    ) -> None:
        """`size` is the picture's, with what of tiles reaches beyond the slide."""
        self._size, self._weights = size, weights
        self._sums = _zeros(folder, (size.height, size.width, classes))
        self._total = _zeros(folder, (size.height, size.width))

    def add(self, x: int, y: int, scores: Features) -> None:
        """Add a tile, (K, height, width), whose corner is at (x, y) of the picture."""
        height, width = scores.shape[1:]
        place = (slice(y, y + height), slice(x, x + width))
        self._sums[place] += (scores * self._weights).transpose(1, 2, 0)
        self._total[place] += self._weights

    def bands(self) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
        """(first row, (rows, width, K) mean scores, (rows, width) where there are any)."""
        for top in range(0, self._size.height, _ROWS):
            total = np.asarray(self._total[top : top + _ROWS])
            covered = total > 0
            divided = np.where(covered, total, np.float32(1))[..., None]
            scores = np.asarray(self._sums[top : top + _ROWS]) / divided
            yield top, scores.astype(np.float32, copy=False), covered

    def close(self) -> None:
        """Let go of the files."""
        del self._sums, self._total


def _zeros(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array in an unnamed file, whose room is taken at once: a disk that is full only when a
    mapped page is written ends the process. Raises `ResultError` where there is not so much.
    """
    size = math.prod(shape) * 4
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise ResultError(
                f"{folder} has no room for the scores of a slide under way, {gib(size)} ({error}); "
                "make room, or have the model score fewer pixels"
            ) from error
        return np.memmap(file, np.float32, "r+", shape=shape)
