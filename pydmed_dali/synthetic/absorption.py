"""A square of tissue that repeats, as the light it absorbs, with block means for coarser levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.synthetic.painting import Layers
from pydmed_dali.synthetic.stains import Stain

Texels = NDArray[np.uint32]
"""Flattened square of packed texels: the bytes of red, green, blue and 0."""

_BAND = 64
"""Rows that are averaged at a time, to spare memory."""


class AbsorptionTexture:
    """The texture at every resolution; a coarser one is made when it is first asked for."""

    def __init__(self, layers: Layers, stain: Stain) -> None:
        """Stain the `layers`, whose side is a power of two."""
        self.side = len(layers.eosin)
        """Its side in texels, a power of two."""
        self._finest = _packed(layers, stain)
        self._means: dict[int, Texels] = {}

    def means(self, block: int) -> tuple[Texels, int]:
        """Means over `block` x `block` texels, and how many of them are on a side.

        `block` is a power of two from 2 on. Neighbouring means overlap by half: they lie
        block // 2 texels apart, the first over the texels 0..block-1.
        """
        apart = min(block // 2, self.side)
        if apart not in self._means:
            self._means[apart] = self._made(apart)
        return self._means[apart], self.side // apart

    def _made(self, apart: int) -> Texels:
        """Means over 2 * `apart` texels in each direction."""
        texels = self._finest.view(np.uint8).reshape(self.side, self.side, 4)
        means = texels if apart == 1 else _block_means(texels, apart)
        made = np.empty(means.shape, np.uint8)
        for first in range(0, len(means), _BAND):
            band = range(first, min(first + _BAND, len(means)) + 1)
            rows = np.take(means, band, axis=0, mode="wrap").astype(np.float32)
            rows = rows[:-1] + rows[1:]
            rows += np.roll(rows, -1, axis=1)
            made[first : first + _BAND] = rows * np.float32(0.25) + np.float32(0.5)
        return made.view(np.uint32).ravel()


def _block_means(texels: NDArray[np.uint8], apart: int) -> NDArray[np.float32]:
    """Means over blocks of `apart` texels in each direction: (count, count, 4)."""
    count = len(texels) // apart
    means = np.empty((count, count, 4), np.float32)
    for row in range(count):
        sums = texels[row * apart : (row + 1) * apart].sum(axis=0, dtype=np.uint32)
        means[row] = sums.reshape(count, apart, 4).sum(axis=1) / apart**2
    return means


def _packed(layers: Layers, stain: Stain) -> NDArray[np.uint32]:
    """The layers' absorbed light: (side, side) uint32."""
    colours = np.zeros((256, 256, 4), np.uint8)
    colours[:, :, :3] = stain.absorbed()
    table = colours.view(np.uint32).ravel()
    index = layers.hematoxylin.astype(np.uint16)
    index <<= 8
    index |= layers.eosin
    return np.take(table, index)
