"""What a stream delivered, thinned out evenly so that any number of batches fits in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pydmed_dali.demo.network import unnormalised
from pydmed_dali.slide.slide import Pixels

_MOST_BATCHES = 512  # of which the places are kept
_MOST_SHOWN = 64  # of which some images are kept
_IMAGES_PER_BATCH = 6


@dataclass(frozen=True, slots=True)
class Shown:
    """One crop as the network saw it."""

    pixels: Pixels
    """(height, width, 3) uint8 RGB: augmented, but not normalised."""
    row: NDArray[np.int64]
    """Its row of `info`."""


class CropRecorder:
    """Collects the places of the crops of `steps` batches, and the images of a few of them."""

    def __init__(self, steps: int, seed: int) -> None:
        self._stride = -(-steps // _MOST_BATCHES)
        self._image_stride = -(-steps // _MOST_SHOWN)
        self._rng = np.random.default_rng(seed)
        self._rows: list[NDArray[np.int64]] = []
        self._used: list[NDArray[np.bool_]] = []
        self._step = 0
        self.batch_shape: tuple[int, ...] = ()
        """(N, channels, height, width) of the images."""
        self.shown: list[Shown] = []
        """Crops at random, in the order in which they came; none that was left out."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """(M, columns of `InfoColumn`): the crops of the batches that were kept."""
        return np.concatenate(self._rows)

    @property
    def used(self) -> NDArray[np.bool_]:
        """(M,): which of `rows` were not left out."""
        return np.concatenate(self._used)

    def add(self, batch: Mapping[str, Tensor], used: Tensor | None = None) -> None:
        """Note a batch of `classification`; `used` (N,) bool tells the crops not left out."""
        self.batch_shape = tuple(batch["image"].shape)
        rows = batch["info"].cpu().numpy()
        kept = np.ones(len(rows), np.bool_) if used is None else used.cpu().numpy()
        if self._step % self._stride == 0:
            self._rows.append(rows)
            self._used.append(kept)
        if self._step % self._image_stride == 0:
            self._show(batch["image"], rows, np.flatnonzero(kept))
        self._step += 1

    def _show(self, images: Tensor, rows: NDArray[np.int64], usable: NDArray[np.int64]) -> None:
        chosen = self._rng.permutation(usable)[:_IMAGES_PER_BATCH]
        pixels = (unnormalised(images[chosen]) * 255).round().byte().permute(0, 2, 3, 1)
        self.shown += map(Shown, pixels.cpu().numpy(), rows[chosen])
