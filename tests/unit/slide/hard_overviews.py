"""Overviews, 8 micrometres a pixel, that masks went wrong on: pale, sparse, grey, inked, dirty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.synthetic.tissue_slides import tissue_image

GLASS = (241, 240, 243)
INKS = {
    "blue": (45, 70, 160),
    "green": (30, 120, 80),
    "black": (25, 25, 30),
    "red": (200, 30, 50),
    "purple": (105, 30, 160),
    "violet": (128, 20, 140),
    "orange": (240, 120, 25),
    "yellow": (240, 200, 30),
    "turquoise": (20, 150, 160),
}

Truth = NDArray[np.bool_]


def section(tissue: str = "tumor", seed: int = 3) -> tuple[Pixels, Truth]:
    """A drawn section amid glass, (256, 256, 3), and where it is."""
    image = tissue_image(Size(4096, 4096), tissue=tissue, seed=seed)
    pixels = image.pixels(Point(0, 0), Size(256, 256), 16)
    return pixels, (pixels != pixels[0, 0]).any(axis=2)


def noisy(pixels: NDArray[np.floating], seed: int = 0, deviation: float = 2.0) -> Pixels:
    """With the noise of a camera."""
    noise = np.random.default_rng(seed).normal(0, deviation, pixels.shape)
    return np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8)


def glass(height: int = 256, width: int = 256, colour: tuple[int, ...] = GLASS) -> Pixels:
    """Nothing but glass."""
    return noisy(np.full((height, width, 3), colour, np.float64))


def pale(strength: float) -> tuple[Pixels, Truth]:
    """The section with a part of its stain only."""
    pixels, truth = section()
    ground = np.array(GLASS, np.float64)
    return noisy(ground * (pixels / pixels[0, 0]) ** strength), truth


def sparse(part: float) -> tuple[Pixels, Truth]:
    """The section with strands and cells where it was solid: only `part` of it is there."""
    pixels, truth = section()
    rng = np.random.default_rng(5)
    there = rng.random(truth.shape) < part
    return noisy(np.where((there & truth)[:, :, None], pixels, np.array(GLASS, np.float64))), truth


def fluorescence(ground: float, gain: float, colour: tuple[float, ...]) -> tuple[Pixels, Truth]:
    """Nuclei that shine on a dark ground; of the colour (1, 1, 1) where the camera knows none."""
    _, truth = section()
    rng = np.random.default_rng(6)
    nuclei = (rng.random(truth.shape) < 0.3) * rng.uniform(0.3, 1, truth.shape)
    light = truth * (0.06 + nuclei)
    pixels = ground + gain * light[:, :, None] * np.array(colour)
    return noisy(pixels, deviation=1.5), truth


def stroke(overview: Pixels, colour: tuple[int, int, int], width: int = 12) -> tuple[Pixels, Truth]:
    """The overview with a line of ink from the upper left to the right, and where the ink is.

    Ink darkens what it lies on, and its edge is a mixture.
    """
    size = (overview.shape[1], overview.shape[0])
    line = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(line).line([(0, 40), (4 * size[0], 260)], 240, 4 * width)
    opacity = np.asarray(line.resize(size, Image.Resampling.BOX))[:, :, None] / 255
    inked = overview * (np.array(colour) / 255)
    mixed = (overview * (1 - opacity) + inked * opacity).astype(np.uint8)
    return mixed, opacity[:, :, 0] > 0.05


def dust() -> Pixels:
    """Glass with grey shadows, coloured specks and a dark fibre."""
    picture = Image.fromarray(glass())
    draw = ImageDraw.Draw(picture)
    rng = np.random.default_rng(7)
    for x, y in rng.integers(10, 246, (60, 2)).tolist():
        draw.rectangle([x, y, x + 2, y + 1], tuple(rng.integers(60, 200, 3).tolist()))
    draw.ellipse([60, 60, 90, 85], (205, 204, 206))
    draw.ellipse([150, 180, 200, 210], (222, 221, 223))
    draw.line([(20, 200), (120, 240)], (90, 88, 92), 2)
    return noisy(np.asarray(picture, np.float64), 8, 1.0)
