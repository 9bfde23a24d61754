"""Drawing on a square that repeats in both directions, and the shapes that tissue is drawn from.

Positions and lengths are in texels, the square's own pixels; a shape that leaves the square on one
side enters it on the other.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Bytes = NDArray[np.uint8]
Places = NDArray[np.float64]
"""Positions (n, 2) as (x, y)."""
Outlines = NDArray[np.float64]
"""Polygons (n, corners, 2) as (x, y)."""


class TorusCanvas:
    """A square of bytes, drawn on by filling polygons."""

    def __init__(self, side: int, value: int = 0) -> None:
        """Make a square of `side` texels, filled with `value`."""
        self.side = side
        self._image = Image.new("L", (side, side), value)
        self._draw = ImageDraw.Draw(self._image)

    def fill(self, outlines: Outlines, values: NDArray[np.int64] | int) -> None:
        """Fill the polygons with `values`, one after the other."""
        each = np.broadcast_to(values, len(outlines)).tolist()
        for outline, value in zip(outlines, each, strict=True):
            for copy in self._copies(outline):
                self._draw.polygon(copy, fill=value)

    def pixels(self, blur: float = 0.0) -> Bytes:
        """A copy of the square, (side, side) uint8, blurred by a Gaussian of `blur` texels."""
        return blurred(np.asarray(self._image), blur)

    def at(self, places: Places) -> Bytes:
        """The bytes under `places`, (n,) uint8."""
        texels = np.floor(places).astype(np.int64) % self.side
        found: Bytes = np.asarray(self._image)[texels[:, 1], texels[:, 0]]
        return found

    def _copies(self, outline: NDArray[np.float64]) -> list[list[float]]:
        """The polygon where it is and wherever else on the torus it shows."""
        shifts = [
            [s for s in (-self.side, 0, self.side) if low + s < self.side and high + s >= 0]
            for low, high in zip(outline.min(axis=0), outline.max(axis=0), strict=True)
        ]
        return [(outline + shift).ravel().tolist() for shift in itertools.product(*shifts)]


def blurred(values: Bytes, blur: float) -> Bytes:
    """A copy of the square `values` after a Gaussian of `blur` texels, across the seam too."""
    if not blur:
        return values.copy()
    margin = 8 + int(4 * blur)
    padded = Image.fromarray(np.pad(values, margin, mode="wrap"))
    smooth = np.asarray(padded.filter(ImageFilter.GaussianBlur(blur)))
    return smooth[margin:-margin, margin:-margin].copy()


def scattered(rng: np.random.Generator, side: int, spacing: float, jitter: float) -> Places:
    """Positions on a hexagonal lattice that fits the square, each moved by up to jitter*spacing."""
    across = max(round(side / spacing), 1)
    down = max(2 * round(side / (spacing * 3**0.5)), 2)
    row, column = (axis.ravel() for axis in np.mgrid[:down, :across])
    lattice = np.stack([(column + row % 2 / 2) * side / across, row * side / down], axis=1)
    moved: Places = (lattice + rng.uniform(-jitter, jitter, lattice.shape) * spacing) % side
    return moved


def blobs(
    rng: np.random.Generator,
    places: Places,
    half_axes: NDArray[np.float64],
    angles: NDArray[np.float64],
    roughness: float,
    corners: int = 20,
) -> Outlines:
    """Irregular ellipses: `half_axes` (n, 2) along and across `angles` (radians)."""
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 1 + roughness * wobble(rng, len(places), turn)
    along = half_axes[:, :1] * radius * np.cos(turn)
    across = half_axes[:, 1:] * radius * np.sin(turn)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y = along * cosine - across * sine, along * sine + across * cosine
    return np.stack([x, y], axis=2) + places[:, None]


def wobble(rng: np.random.Generator, count: int, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth periodic functions of the angle `turn`: (count, len(turn)), about within -1..1."""
    waves = np.zeros((count, len(turn)))
    for harmonic in (2, 3, 4, 5):
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        waves += rng.normal(0, 1 / harmonic, (count, 1)) * np.cos(harmonic * turn + phase)
    return waves


def cell_radii(places: Places, side: int, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance to the border of each place's Voronoi cell, (n, len(turn)), by angle `turn`."""
    apart = places[None] - places[:, None]
    apart = (apart + side / 2) % side - side / 2
    squared = (apart**2).sum(axis=2)
    rays = directions(turn).T
    radii = np.empty((len(places), len(turn)))
    for index in range(len(places)):
        near = np.argsort(squared[index])[1:24]
        towards = apart[index, near] @ rays
        with np.errstate(divide="ignore"):
            border = np.where(towards > 0, squared[index, near, None] / (2 * towards), np.inf)
        radii[index] = border.min(axis=0)
    return radii


def around(places: Places, radii: NDArray[np.float64], turn: NDArray[np.float64]) -> Outlines:
    """Polygons with corners at `radii` (n, len(turn)) from `places` in the directions `turn`."""
    outlines: Outlines = places[:, None] + radii[:, :, None] * directions(turn)
    return outlines


def directions(turn: NDArray[np.float64]) -> Places:
    """Unit vectors (len(turn), 2) in the directions `turn`, radians from x towards y."""
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)
