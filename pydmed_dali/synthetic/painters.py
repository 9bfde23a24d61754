"""One painter for each class of tissue, as it looks in hematoxylin and eosin.

Lengths are in micrometres: nuclei of 6 to 14, glands of about 95, fat cells of about 45.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.synthetic.canvas import Places, around, blobs, cell_radii, directions, wobble
from pydmed_dali.synthetic.noise import Layer, torus_noise
from pydmed_dali.synthetic.painting import NO_CELL, Layers, Painting, Sheet, warped

Painter = Callable[[Sheet, np.random.Generator], Layers]

_TURN = np.linspace(0, 2 * np.pi, 72, endpoint=False)


def paint_stroma(sheet: Sheet, rng: np.random.Generator) -> Layers:
    """Wavy bundles of eosin fibres with sparse, long nuclei along them."""
    painting = Painting(sheet, rng)
    places = sheet.scattered(rng, 30, 0.5)
    along = rng.normal(0, 0.12, len(places))
    painting.add_nuclei(places, (8.0, 1.5), along, depth=(95, 150), spread=0.22, rim=1.1)
    lymphocytes = sheet.scattered(rng, 110, 0.5)
    painting.add_nuclei(lymphocytes, (3.2, 3.0), depth=(130, 170))
    straight = painting.layers(sheet.evened(_fibres(sheet, rng), 45), chromatin=0.25)
    waves = torus_noise(rng, sheet.side, sheet.cells(250, 125), 2)
    down = (waves - 0.5) * np.float32(120 * sheet.per_um)
    across = (sheet.noise(rng, 170) - 0.5) * np.float32(30 * sheet.per_um)
    return Layers(warped(straight.hematoxylin, down, across), warped(straight.eosin, down, across))


def paint_gland(sheet: Sheet, rng: np.random.Generator) -> Layers:
    """Rings of nuclei around pale lumina, in a little pink stroma."""
    painting = Painting(sheet, rng)
    centres = sheet.scattered(rng, 88, 0.23)
    radii = _gland_radii(sheet, rng, centres)
    painting.add_bodies(around(centres, radii, _TURN), eosin=88, haze=34)
    height = rng.uniform(17, 22, (len(centres), 1)) * sheet.per_um
    inner = np.maximum(radii - height * (1 + 0.12 * wobble(rng, len(centres), _TURN)), 3)
    painting.add_bodies(around(centres, (inner * 2 + radii) / 3, _TURN), eosin=66, haze=22)
    _goblets(painting, centres, radii, inner)
    painting.add_bodies(around(centres, inner, _TURN), eosin=7, haze=4)
    _ring_nuclei(painting, centres, radii)
    _between(painting, spacing=13)
    return painting.layers(_loose(sheet, rng), chromatin=0.35)


def paint_tumor(sheet: Sheet, rng: np.random.Generator) -> Layers:
    """Crowded, irregular, dark nuclei of all sizes in nests."""
    painting = Painting(sheet, rng)
    centres = sheet.scattered(rng, 150, 0.35)
    gap = sheet.per_um * (4 + 2 * wobble(rng, len(centres), _TURN))
    nests = cell_radii(centres, sheet.side, _TURN) - gap
    painting.add_bodies(around(centres, np.maximum(nests, 1), _TURN), eosin=58, haze=32)
    places = sheet.scattered(rng, 10.4, 0.36)
    inside = painting.body.at(places) != NO_CELL
    crowd = places[inside]
    painting.add_nuclei(crowd, (4.6, 3.7), depth=(75, 150), spread=0.24, roughness=0.12, rim=1.22)
    giants = crowd[rng.random(len(crowd)) < 0.02]
    painting.add_nuclei(giants, (7.5, 5.8), depth=(110, 180), spread=0.2, roughness=0.16)
    _between(painting, spacing=12)
    return painting.layers(_loose(sheet, rng), chromatin=0.5)


def paint_fat(sheet: Sheet, rng: np.random.Generator) -> Layers:
    """Large pale cells with thin walls and a flat nucleus here and there on the wall."""
    painting = Painting(sheet, rng)
    centres = sheet.scattered(rng, 46, 0.28)
    radii = cell_radii(centres, sheet.side, _TURN)
    wall = sheet.per_um * rng.uniform(0.9, 1.5, (len(centres), 1))
    for _ in range(3):
        radii = (np.roll(radii, 1, axis=1) + radii + np.roll(radii, -1, axis=1)) / 3
    inner = radii * (1 + 0.015 * wobble(rng, len(centres), _TURN)) - wall
    painting.add_bodies(around(centres, np.maximum(inner, 1), _TURN), eosin=9, haze=4)
    _wall_nuclei(painting, centres, radii)
    return painting.layers(_fibres(sheet, rng), chromatin=0.25)


PAINTERS: Mapping[str, Painter] = MappingProxyType(
    {"fat": paint_fat, "gland": paint_gland, "stroma": paint_stroma, "tumor": paint_tumor}
)
"""The painter of each class, by its name."""


def _fibres(sheet: Sheet, rng: np.random.Generator) -> Layer:
    """Eosin of fibres that run across, in bundles with pale clefts: (side, side) float32."""
    fibres = torus_noise(rng, sheet.side, sheet.cells(3.2, 60), 3)
    fibres -= 0.5
    fibres *= 150
    fibres += 74
    bundles = torus_noise(rng, sheet.side, sheet.cells(26, 150), 3)
    clefts = np.abs(bundles - 0.5)
    fibres *= np.clip(14 * clefts + 0.15, 0, 1)
    fibres *= np.clip(1.6 * bundles + 0.2, 0, 1.3)
    return np.clip(fibres, 6, 160, out=fibres)


def _loose(sheet: Sheet, rng: np.random.Generator) -> Layer:
    """Fibres in all directions, as between glands: (side, side) float32."""
    down = (sheet.noise(rng, 60, 2) - 0.5) * np.float32(110 * sheet.per_um)
    across = (sheet.noise(rng, 60, 2) - 0.5) * np.float32(110 * sheet.per_um)
    return 0.85 * sheet.evened(warped(_fibres(sheet, rng), down, across), 60)


def _gland_radii(sheet: Sheet, rng: np.random.Generator, centres: Places) -> NDArray[np.float64]:
    """Where each gland ends, in texels by `_TURN`: its share of the room, rounded off."""
    room = cell_radii(centres, sheet.side, _TURN)
    gap = sheet.per_um * rng.uniform(4, 8, (len(centres), 1))
    radii = np.minimum(room, np.quantile(room, 0.7, axis=1, keepdims=True)) - gap
    for _ in range(10):
        radii = (np.roll(radii, 1, axis=1) + radii + np.roll(radii, -1, axis=1)) / 3
    return radii * (1 + 0.03 * wobble(rng, len(centres), _TURN))


def _goblets(
    painting: Painting, centres: Places, radii: NDArray[np.float64], inner: NDArray[np.float64]
) -> None:
    """Pale drops of mucus in the cells' inner half."""
    rng, per_um = painting.rng, painting.sheet.per_um
    chosen = rng.random(radii.shape) < 0.22
    gland, corner = np.nonzero(chosen)
    distance = (0.62 * inner + 0.38 * radii)[chosen]
    turn = _TURN[corner] + rng.normal(0, 0.03, len(corner))
    places = centres[gland] + distance[:, None] * directions(turn)
    half_axes = per_um * rng.uniform((3.5, 2.0), (6.0, 3.2), (len(places), 2))
    painting.add_bodies(blobs(rng, places, half_axes, turn, 0.05), eosin=18, haze=16)


def _ring_nuclei(painting: Painting, centres: Places, radii: NDArray[np.float64]) -> None:
    """Nuclei side by side at the outer end of the cells, pointing inwards."""
    rng, per_um = painting.rng, painting.sheet.per_um
    for centre, radius in zip(centres, radii, strict=True):
        count = int(2 * np.pi * radius.mean() / (4.6 * per_um))
        turn = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
        distance = np.interp(turn, _TURN, radius, period=2 * np.pi)
        distance -= per_um * (6.2 + rng.normal(0, 1.3, count))
        places = centre + distance[:, None] * directions(turn)
        angles = turn + rng.normal(0, 0.15, count)
        painting.add_nuclei(places, (4.6, 2.3), angles, depth=(100, 150))


def _wall_nuclei(painting: Painting, centres: Places, radii: NDArray[np.float64]) -> None:
    """Flat nuclei along the walls of some cells."""
    rng = painting.rng
    cells = np.flatnonzero(rng.random(len(centres)) < 0.7)
    corners = rng.integers(0, len(_TURN), len(cells))
    turn = _TURN[corners]
    places = centres[cells] + radii[cells, corners, None] * directions(turn)
    painting.add_nuclei(places, (4.5, 1.5), turn + np.pi / 2, depth=(110, 150))


def _between(painting: Painting, spacing: float) -> None:
    """Long and round nuclei where no cell was drawn."""
    rng = painting.rng
    places = painting.sheet.scattered(rng, spacing, 0.5)
    places = places[painting.body.at(places) == NO_CELL]
    round_ones = rng.random(len(places)) < 0.3
    painting.add_nuclei(places[round_ones], (3.1, 2.8), depth=(130, 170))
    long_ones = places[~round_ones]
    painting.add_nuclei(long_ones, (5.5, 1.4), rng.normal(0, 0.5, len(long_ones)), depth=(100, 150))
