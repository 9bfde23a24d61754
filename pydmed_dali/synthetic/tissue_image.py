"""The pixels of an H&E-like slide of any size, at any level, as a pure function of the position.

A slide is a texture that repeats, looked up at positions that are turned by the slide's own angle
and bent by smooth noise, so that the repetition does not show; the absorbed light is scaled by a
smooth field of stain and ends at the tissue's outline. All of this is linear in the texture, and a
coarser level looks up the texture's own block means: a coarse pixel is nearly the mean of the
level-0 pixels it stands for, at the cost of one pixel.

Smooth fields are interpolated exactly (see `grid`): a pixel does not depend on the region it is
asked with, and tiles meet without a seam.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.synthetic.absorption import AbsorptionTexture
from pydmed_dali.synthetic.field_grid import FieldGrid
from pydmed_dali.synthetic.noise import Field, Layer, plane_noise
from pydmed_dali.synthetic.painters import PAINTERS
from pydmed_dali.synthetic.painting import Sheet
from pydmed_dali.synthetic.stains import GROUND, MOST_ABSORBED, Stain
from pydmed_dali.synthetic.tissue_outline import TissueOutline

_SIDE = 2048
"""Side of the repeating texture as it is painted, in texels."""
_TEXELS_PER_PIXEL = 2
"""Texels across a level-0 pixel: the nearest texel is then near enough for smooth edges."""
_FINE_MPP = 0.35
"""Below this mpp the painting is enlarged twice, so that it still covers some 0.4 millimetres."""
_BLOCK = 256
"""Regions are made in blocks of at most this side, in pixels."""
_FIELD_STEP = 32
"""Grid of the bending and the stain, in level-0 pixels."""
_EDGE_STEP = 16
"""Grid of the outline, in level-0 pixels."""
_TEXEL_UNIT = 1 / 8
"""What positions in the texture are rounded to, in texels."""
_GAIN_UNIT = 1 / 256
"""What the stain's strength is rounded to; 1 is usual."""
_DISTANCE_UNIT = 1 / 16
"""What the distance from the edge is rounded to, in level-0 pixels."""
_SOFT_EDGE, _SOFTEST_EDGE = 5.0, 80.0
"""Level-0 pixels over which the tissue fades at its edge; coarser levels fade over one pixel."""
_RAGGED = 12.0
"""Level-0 pixels by which the edge follows the tissue's texture."""
_STAIN_DRIFT = np.array([[0.15, 0.12, 0.09, 0], [0.05, 0.11, 0.07, 0]])
"""Change of the absorption in red, green and blue with two smooth fields."""


class TissueImage:
    """The pixels of one slide.

    Holds its texture, whatever the slide's size: some 50 MB, or some 200 for an mpp below 0.35.
    """

    def __init__(self, size: Size, tissue: str, seed: int, mpp: float = 0.5) -> None:
        """Paint the texture of a slide of `size` level-0 pixels, `mpp` micrometres each.

        `tissue` is a key of `painters.PAINTERS`.
        """
        self.size = size
        rng = np.random.default_rng([seed, *tissue.encode()])
        enlarged = 1 if mpp >= _FINE_MPP else 2
        sheet = Sheet(_SIDE, _TEXELS_PER_PIXEL / mpp / enlarged)
        stain = Stain.drawn(rng)
        self._key = int(rng.integers(1 << 62))
        angle = rng.uniform(0, 2 * np.pi)
        self._turn = np.cos(angle), np.sin(angle)
        layers = PAINTERS[tissue](sheet, rng).enlarged(enlarged)
        self._texture = AbsorptionTexture(layers, stain)
        self._outline = TissueOutline(size, self._key)

    def pixels(self, location_in_level: Point, size: Size, downsample: int = 1) -> Pixels:
        """A region of the level that is coarser by `downsample`: (height, width, 3) uint8 RGB.

        `location_in_level` and `size` are in that level's own pixels; `downsample` is a power of
        two. The region may reach beyond the slide, where the ground goes on. Two regions agree on
        every pixel that they share.
        """
        if downsample == 1:
            return self._rendered(location_in_level, size, 1)
        finer = Point(2 * location_in_level.x, 2 * location_in_level.y)
        return _halved(
            self._rendered(finer, Size(2 * size.width, 2 * size.height), downsample // 2)
        )

    def _rendered(self, location: Point, size: Size, downsample: int) -> Pixels:
        """A region as it is looked up, block by block."""
        pixels = np.empty((size.height, size.width, 3), np.uint8)
        for top in range(0, size.height, _BLOCK):
            for left in range(0, size.width, _BLOCK):
                part = pixels[top : top + _BLOCK, left : left + _BLOCK]
                self._fill(part, Point(location.x + left, location.y + top), downsample)
        return pixels

    def _fill(self, out: Pixels, location_in_level: Point, downsample: int) -> None:
        """Make one block of pixels, of at most `_BLOCK` in each direction."""
        size = Size(out.shape[1], out.shape[0])
        grid = FieldGrid(location_in_level, size, downsample, _EDGE_STEP)
        distance = self._outline.distance(grid.rows, grid.columns)
        fade = min(max(_SOFT_EDGE, float(downsample)), _SOFTEST_EDGE)
        if distance.max() <= -fade / 2 - _RAGGED:
            out[:] = GROUND
            return
        fields = FieldGrid(location_in_level, size, downsample, _FIELD_STEP)
        absorbed = self._absorbed(fields, downsample)
        if distance.min() < fade / 2 + _RAGGED:
            depth = grid.spread(distance[:, :, None], _DISTANCE_UNIT)
            absorbed *= _share(depth, absorbed[:, :, 1:2], fade)
        np.subtract(np.float32(GROUND + 0.5), absorbed, out=absorbed)
        out[:] = absorbed[:, :, :3]

    def _absorbed(self, grid: FieldGrid, downsample: int) -> Layer:
        """The light that the tissue takes, its edge not regarded: (height, width, 4) float32."""
        across = _TEXELS_PER_PIXEL * downsample
        means, count = self._texture.means(across)
        x, y = self._bent(grid) * (_TEXELS_PER_PIXEL * count / self._texture.side)
        index = _texels(grid, y - 0.5, count)
        index *= count
        index += _texels(grid, x - 0.5, count)
        colours = np.take(means, index).view(np.uint8).reshape(*index.shape, 4)
        gain = grid.spread(self._gain(grid), _GAIN_UNIT)
        return np.multiply(colours, gain, out=gain)

    def _bent(self, grid: FieldGrid) -> Field:
        """Level-0 positions in the texture of the grid's corners: (2, rows, columns), x first."""
        bend = 800 * plane_noise(self._key + 30, 9000, grid.rows, grid.columns, 2)
        bend += 260 * plane_noise(self._key + 31, 2600, grid.rows, grid.columns, 2)
        x, y = grid.columns.positions + bend[0], grid.rows.positions[:, None] + bend[1]
        cosine, sine = self._turn
        return np.stack([cosine * x - sine * y, sine * x + cosine * y])

    def _gain(self, grid: FieldGrid) -> Field:
        """Strength of the absorption at the corners: (rows, columns, 4) float64, at most 1.2."""
        slow = plane_noise(self._key + 40, 6000, grid.rows, grid.columns, 2)
        fast = plane_noise(self._key + 41, 1100, grid.rows, grid.columns, 2)
        gain: Field = 1 + np.moveaxis(0.6 * slow + 0.4 * fast, 0, 2) @ _STAIN_DRIFT
        return np.clip(gain, 0.65, 1.2)


def _halved(pixels: Pixels) -> Pixels:
    """Means of 2x2 pixels, rounded."""
    sums = pixels[0::2].astype(np.uint16)
    sums += pixels[1::2]
    sums = sums[:, 0::2] + sums[:, 1::2]
    sums += 2
    sums >>= 2
    return sums.astype(np.uint8)


def _texels(grid: FieldGrid, corners: Field, count: int) -> NDArray[np.int32]:
    """Indices 0..count-1 of the texels under the pixels, from the corners' positions in texels."""
    base = int(corners.min()) - 1
    texels = grid.spread(corners[:, :, None] - base, _TEXEL_UNIT)[:, :, 0].astype(np.int32)
    texels += base % count
    texels &= count - 1
    return texels


def _share(depth: Layer, green: Layer, fade: float) -> Layer:
    """How much of a pixel is tissue: its edge is ragged, since what absorbs little ends first."""
    ragged = green * np.float32(2 * _RAGGED / MOST_ABSORBED)
    ragged -= np.float32(_RAGGED)
    ragged += depth
    ragged /= np.float32(fade)
    ragged += np.float32(0.5)
    return np.clip(ragged, 0, 1, out=ragged)
