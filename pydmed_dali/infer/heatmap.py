"""Results as an array over the slide, and as a picture of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.infer.feature_file import read_features
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.tissue_mask import overview
from pydmed_dali.text import printable

_LONGEST = 1600  # of the slide's picture, in pixels
_WIDE, _TALLEST, _LOWEST = 10.0, 12.0, 3.0  # inches
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue, ITU-R BT.601
_INK, _DPI, _MAP = "#1f2430", 120, "viridis"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureGrid:
    """What a model said of a slide, on the grid of its tiles.

    Cell (row, column) of the grid is as large as a stride, and lies at (column * width, row *
    height) of the slide.
    """

    values: NDArray[np.float32]
    """(rows, columns, K): the mean over the tiles that cover a cell; NaN where none does."""
    covered: NDArray[np.bool_]
    """(rows, columns): where some tile does."""
    cell: tuple[float, float]
    """(width, height) of a cell, in level-0 pixels."""


def feature_grid(file: str | os.PathLike[str]) -> FeatureGrid:
    """The features of a file that `predict` wrote, as an array; overlapping tiles are averaged."""
    read = read_features(file)
    features = read.features
    step = np.asarray(read.attributes["stride_level0"], np.float64)
    tile = np.broadcast_to(read.attributes["patch_size_level0"], 2)
    places = np.rint(read.coords / step).astype(np.int64)
    across, down = (math.ceil(side / each - 0.01) for side, each in zip(tile, step, strict=True))
    columns, rows = int(places[:, 0].max()) + across, int(places[:, 1].max()) + down
    sums = np.zeros((rows, columns, features.shape[1]))
    counts = np.zeros((rows, columns), np.int64)
    for y in range(down):
        for x in range(across):
            cells = (places[:, 1] + y, places[:, 0] + x)
            sums[cells] += features  # a tile of its own for each cell
            counts[cells] += 1
    with np.errstate(invalid="ignore"):
        values = (sums / counts[..., None]).astype(np.float32)
    return FeatureGrid(values, counts > 0, (float(step[0]), float(step[1])))


def heatmap(
    slide: str | os.PathLike[str],
    file: str | os.PathLike[str],
    picture: str | os.PathLike[str],
    column: int = 0,
    label: str | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw one column of a slide's features over the slide, as a PNG with a legend.

    Args:
        slide: the slide's path.
        file: what `predict` wrote of it.
        picture: the PNG to write.
        column: which of the K numbers.
        label: what the legend calls it.
        limits: values at the ends of the colours; by default the 1st and 99th percentile.

    Raises `OptionError` for a column that there is not, and a `SlideError` for the slide's.
    """
    found = feature_grid(file)
    if not 0 <= column < found.values.shape[2]:
        raise OptionError(
            f"column={column} was asked for, and {file} has columns 0..{found.values.shape[2] - 1}"
        )
    opened = open_slide(Path(slide), Cache(None))
    try:
        size, mpp = opened.facts.dimensions, opened.facts.mpp
        pixels = overview(opened, _picture_size(size))
    finally:
        opened.close()
    values = found.values[..., column]
    low, high = limits or np.nanpercentile(values, (1, 99)).tolist()
    figure = _draw(Path(slide).name, pixels, size, found, values, (low, high), label, column)
    if mpp is not None:
        _draw_scale(figure, size, mpp[0])
    figure.savefig(picture, dpi=_DPI)


def _draw(
    name: str,
    pixels: Pixels,
    size: Size,
    found: FeatureGrid,
    values: NDArray[np.float32],
    limits: tuple[float, float],
    label: str | None,
    column: int,
) -> Figure:
    """The slide in grey, and over it the values; all in level-0 pixels."""
    height = min(max(_WIDE * size.height / size.width, _LOWEST), _TALLEST)
    figure = Figure(figsize=(_WIDE + 1.6, height + 0.7), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    extent = (0, size.width, size.height, 0)
    # In grey, so that a colour is one of the legend's, darker where the slide is.
    grey = pixels @ _LUMINANCE
    axes.imshow(grey, "gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    rows, columns = values.shape
    cells = (0, columns * found.cell[0], rows * found.cell[1], 0)
    image = axes.imshow(
        np.ma.masked_where(~found.covered, values),
        extent=cells,
        cmap=_MAP,
        vmin=limits[0],
        vmax=limits[1],
        alpha=0.55,
        interpolation="nearest",
    )
    axes.set(xlim=(0, size.width), ylim=(size.height, 0), xticks=[], yticks=[])
    axes.spines[:].set_color("#d1d5db")
    axes.set_title(printable(name), loc="left", fontweight="bold", color=_INK, parse_math=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, extend="both")
    bar.set_label(label or f"feature {column}", color=_INK, parse_math=False)
    return figure


def _draw_scale(figure: Figure, size: Size, mpp: float) -> None:
    """A bar of a round length, about a sixth of the slide."""
    axes, wanted = figure.axes[0], size.width * mpp / 6
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    x, y = size.width * 0.97, size.height * 0.97
    bar = Line2D([x - length / mpp, x], [y, y], color=_INK, linewidth=3)
    bar.set_path_effects([withStroke(linewidth=5.5, foreground="white", alpha=0.9)])
    axes.add_line(bar)
    words = axes.annotate(
        text,
        (x - length / mpp / 2, y),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        color=_INK,
    )
    words.set_path_effects([withStroke(linewidth=3, foreground="white", alpha=0.9)])


def _picture_size(dimensions: Size) -> Size:
    factor = min(_LONGEST / max(dimensions.width, dimensions.height), 1.0)
    return Size(max(round(dimensions.width * factor), 1), max(round(dimensions.height * factor), 1))
