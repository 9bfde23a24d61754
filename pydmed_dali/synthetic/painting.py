"""Layers of stain on a square that repeats, and how shapes and fibres are put together in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.synthetic.canvas import (
    Bytes,
    Outlines,
    Places,
    TorusCanvas,
    blobs,
    blurred,
    scattered,
)
from pydmed_dali.synthetic.noise import Layer, torus_noise, torus_resized

_T = TypeVar("_T", np.uint8, np.float32)

NO_CELL = 255
"""In the body canvas: here is no cell but the ground between the cells."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The square that is painted."""

    side: int
    """Its side in texels."""
    per_um: float
    """Texels per micrometre."""

    def cells(self, down_um: float, across_um: float) -> tuple[int, int]:
        """Random values (down, across) so that noise has about these wavelengths."""
        um = self.side / self.per_um
        return max(round(um / down_um), 2), max(round(um / across_um), 2)

    def noise(self, rng: np.random.Generator, um: float, octaves: int = 1) -> Layer:
        """Noise within 0..1 of the wavelength `um`: (side, side) float32."""
        return torus_noise(rng, self.side, self.cells(um, um), octaves)

    def evened(self, layer: Layer, um: float) -> Layer:
        """`layer` with the same mean everywhere, taken over about `um`.

        What differs from place to place would show the texture's repetition from afar.
        """
        blocks = 1 << round(np.log2(self.side / (self.per_um * um)))
        texels = self.side // blocks
        means = layer.reshape(blocks, texels, blocks, texels).mean(axis=(1, 3))
        evening: Layer = torus_resized(means.mean() / means, (self.side, self.side))
        return layer * evening

    def scattered(self, rng: np.random.Generator, um: float, jitter: float) -> Places:
        """Positions about `um` apart, in texels."""
        return scattered(rng, self.side, um * self.per_um, jitter)


@dataclass(frozen=True, slots=True)
class Layers:
    """Amounts of stain, (side, side) uint8; what 255 means is in `stains`."""

    hematoxylin: Bytes
    eosin: Bytes

    def enlarged(self, times: int) -> Layers:
        """The same layers with `times` as many texels on a side."""
        if times == 1:
            return self
        shape = (times * len(self.eosin), times * len(self.eosin))
        return Layers(torus_resized(self.hematoxylin, shape), torus_resized(self.eosin, shape))


class Painting:
    """Layers in the making: nuclei and the bodies of cells over a ground of fibres."""

    def __init__(self, sheet: Sheet, rng: np.random.Generator) -> None:
        """Begin with an empty `sheet`; `rng` decides all that is left to chance."""
        self.sheet = sheet
        self.rng = rng
        self.nuclei = TorusCanvas(sheet.side)
        self.body = TorusCanvas(sheet.side, NO_CELL)
        """Eosin of the cells."""
        self.haze = TorusCanvas(sheet.side)
        """Hematoxylin of the cells' bodies."""

    def add_nuclei(
        self,
        places: Places,
        half_axes_um: tuple[float, float],
        angles: NDArray[np.float64] | None = None,
        *,
        depth: tuple[float, float],
        spread: float = 0.15,
        roughness: float = 0.06,
        rim: float = 1.2,
    ) -> None:
        """Draw nuclei of about `half_axes_um`, with hematoxylin within `depth`.

        `angles` (radians) are those of their long axes, any without; `spread` is the relative
        spread of their sizes, and their edge is `rim` times as dark as they are.
        """
        count = len(places)
        if angles is None:
            angles = self.rng.uniform(0, np.pi, count)
        sizes = np.exp(self.rng.normal(0, (spread, 0.08, 0.08), (count, 3)))
        sizes = sizes[:, :1] * sizes[:, 1:]
        half_axes = sizes * half_axes_um * self.sheet.per_um
        outlines = blobs(self.rng, places, half_axes, angles, roughness)
        values = self.rng.uniform(*depth, count)
        inner = places[:, None] + 0.84 * (outlines - places[:, None])
        self.nuclei.fill(
            np.stack([outlines, inner], axis=1).reshape(2 * count, *outlines.shape[1:]),
            np.stack([np.minimum(values * rim, 255), values], axis=1).ravel().astype(np.int64),
        )

    def add_bodies(self, outlines: Outlines, eosin: int, haze: int) -> None:
        """Draw cells, or parts of them, with so much eosin and hematoxylin."""
        self.body.fill(outlines, eosin)
        self.haze.fill(outlines, haze)

    def layers(self, fibres: Layer, *, chromatin: float, grain: float = 0.5) -> Layers:
        """The finished layers over the eosin of `fibres`, (side, side) float32 within 0..255.

        `chromatin` and `grain` are the relative contrasts of what is in the nuclei and the bodies.
        """
        sheet, rng = self.sheet, self.rng
        nuclei = self.nuclei.pixels(blur=0.25 * sheet.per_um).astype(np.float32)
        inside = np.minimum(nuclei / np.float32(80), 1)
        nuclei *= _contrast(sheet.noise(rng, 1.7, 2), chromatin)
        body = self.body.pixels()
        eosin = body * _contrast(sheet.noise(rng, 3.0, 3), grain)
        np.copyto(eosin, fibres, where=body == NO_CELL)
        eosin *= 1 - np.float32(0.5) * inside
        haze = self.haze.pixels(blur=0.3 * sheet.per_um)
        nuclei += haze * (1 - inside) * _contrast(sheet.noise(rng, 3.0, 2), grain)
        return Layers(as_bytes(nuclei), blurred(as_bytes(eosin), 0.25 * sheet.per_um))


def as_bytes(values: Layer) -> Bytes:
    """`values` cut to 0..255."""
    return np.clip(values, 0, 255).astype(np.uint8)


def warped(layer: NDArray[_T], down: Layer, across: Layer) -> NDArray[_T]:
    """`layer` with each texel taken from so many texels further down and across."""
    side = len(layer)
    own = np.arange(side, dtype=np.int32)
    rows = (down.astype(np.int32) + own[:, None]) % side
    columns = (across.astype(np.int32) + own) % side
    moved: NDArray[_T] = np.take(layer, rows * side + columns)
    return moved


def _contrast(noise: Layer, contrast: float) -> Layer:
    noise -= 0.5
    noise *= np.float32(2 * contrast)
    noise += 1
    return noise
