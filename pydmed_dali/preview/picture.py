"""The picture of one slide: where its tissue is, and the chunks and crops in the order drawn."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from pydmed_dali.geometry import Point
from pydmed_dali.preview.regions import draw_label, draw_regions, region_legend
from pydmed_dali.preview.slide_preview import ChunkSample, SlideSample
from pydmed_dali.text import printable

_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#e6ac00", "#cc79a7", "#56b4e9"),
    *("#7b3294", "#8c510a", "#1b7837", "#b2182b", "#4d4d4d", "#01665e"),
)

MOST_CHUNKS = len(_COLOURS)
"""Chunks that fit in a picture: each has a colour of its own."""

_INK, _LINE, _OUTLINE, _DARK = "#1f2430", "#d1d5db", "#00c853", "#00251a"
_WIDTH, _SLIDE_WIDTH, _TALLEST, _LOWEST = 18.0, 9.2, 11.0, 4.0  # inches
_HEAD, _FOOT, _MARGIN = 0.95, 0.5, 0.35
_DPI = 110
_INSET = 0.008  # of the slide's width, between the frames of chunks at one place


def draw_picture(path: Path, slide: SlideSample, subtitle: str) -> None:
    """Write a PNG to `path`: on the left the slide, on the right a row of crops for each chunk."""
    height = _height(slide)
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    for text, below, style in (
        (printable(slide.name), 0.42, {"fontsize": 16, "fontweight": "bold"}),
        (subtitle, 0.72, {"fontsize": 11}),
    ):
        figure.text(
            _MARGIN / _WIDTH, 1 - below / height, text, color=_INK, parse_math=False, **style
        )
    edges = (_FOOT / height, 1 - _HEAD / height)
    ((left, right),) = figure.subfigures(
        1, 2, width_ratios=(_SLIDE_WIDTH, _WIDTH - _SLIDE_WIDTH), squeeze=False
    )
    _draw_slide(left, slide, edges)
    if slide.chunks:
        _draw_sheet(right, slide, edges)
    else:
        _say(right, "No place of this slide\nhas as much tissue as is asked for.")
    figure.savefig(path, dpi=_DPI)


def _height(slide: SlideSample) -> float:
    """So many inches that the slide and the sheet both fill their width, within limits."""
    extent = slide.view.dimensions
    wide = _SLIDE_WIDTH - 2 * _MARGIN
    rows, columns = len(slide.chunks), max((len(c.shown) for c in slide.chunks), default=1)
    sheet = (_WIDTH - _SLIDE_WIDTH - 2 * _MARGIN) * rows / columns
    body = max(wide * extent.height / extent.width, sheet, _LOWEST)
    return min(body, _TALLEST) + _HEAD + _FOOT


def _draw_slide(figure: SubFigure, slide: SlideSample, edges: tuple[float, float]) -> None:
    """Everything in view pixels, which the picture and the mask are stretched to."""
    axes = figure.subplots()
    side = _MARGIN / _SLIDE_WIDTH
    figure.subplots_adjust(side, edges[0], 1 - side, edges[1])
    extent = slide.view.dimensions
    axes.imshow(
        slide.picture, extent=(0, extent.width, extent.height, 0), interpolation="antialiased"
    )
    axes.set(xlim=(0, extent.width), ylim=(extent.height, 0), xticks=[], yticks=[], anchor="N")
    axes.spines[:].set_color(_LINE)
    if slide.mask is not None:
        _draw_outline(axes, slide)
    draw_regions(axes, slide.regions)
    for number, chunk in enumerate(slide.chunks):
        _draw_crops(axes, slide, chunk, _COLOURS[number])
    seen: Counter[Point] = Counter()
    for number, chunk in enumerate(slide.chunks):
        _draw_chunk(axes, slide, number, seen[chunk.origin])
        seen[chunk.origin] += 1
    _draw_scale(axes, slide)
    figure.legend(
        handles=_legend(slide),
        loc="lower center",
        ncols=4,
        frameon=False,
        labelcolor=_INK,
        bbox_to_anchor=(0.5, 0.0),
    )


def _draw_outline(axes: Axes, slide: SlideSample) -> None:
    assert slide.mask is not None
    extent, pixels = slide.view.dimensions, slide.mask.pixels
    rows, columns = pixels.shape
    # One pixel of no tissue around, so that the outline closes at the slide's edge.
    framed = np.pad(pixels, 1).astype(np.float32)
    x = (np.arange(-1, columns + 1) + 0.5) * extent.width / columns
    y = (np.arange(-1, rows + 1) + 0.5) * extent.height / rows
    x[[0, -1]], y[[0, -1]] = (0, extent.width), (0, extent.height)
    for colour, width in ((_DARK, 1.9), (_OUTLINE, 1.1)):
        axes.contour(x, y, framed, levels=[0.5], colors=[colour], linewidths=width, zorder=2)


def _draw_crops(axes: Axes, slide: SlideSample, chunk: ChunkSample, colour: str) -> None:
    """Dots at the middle of the crops, and true to scale the frames of those on the sheet."""
    width, height = slide.crop.width, slide.crop.height
    corners = chunk.crops[:, ::-1] + np.array((chunk.origin.x, chunk.origin.y))
    x, y = (corners + np.array((width, height)) / 2).T
    axes.scatter(x, y, s=13, c=colour, edgecolors="white", linewidths=0.5, zorder=3)
    shown = corners[: len(chunk.shown)].tolist()
    squares = [Rectangle((left, top), width, height) for left, top in shown]
    for edge, line in (("white", 2.6), (colour, 1.3)):
        axes.add_collection(
            PatchCollection(squares, facecolor="none", edgecolor=edge, linewidth=line, zorder=3)
        )


def _draw_chunk(axes: Axes, slide: SlideSample, number: int, beside: int) -> None:
    """A chunk's frame, with its number inside the upper left corner.

    Both make room for as many others at the same place, on a slide that is hardly larger.
    """
    chunk, colour = slide.chunks[number], _COLOURS[number]
    inset = beside * slide.view.dimensions.width * _INSET
    frame = Rectangle(
        (chunk.origin.x + inset, chunk.origin.y + inset),
        max(chunk.size.width - 2 * inset, 1),
        max(chunk.size.height - 2 * inset, 1),
        fill=False,
        edgecolor=colour,
        linewidth=2,
        zorder=4,
    )
    frame.set_path_effects([withStroke(linewidth=3.6, foreground="white", alpha=0.9)])
    axes.add_patch(frame)
    axes.annotate(
        str(number + 1),
        (chunk.origin.x, chunk.origin.y),
        xytext=(4 + 19 * beside, -4),
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize=10,
        fontweight="bold",
        color="white",
        zorder=5,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "white"},
    )


def _draw_scale(axes: Axes, slide: SlideSample) -> None:
    """A bar of a round length, about a sixth of the slide, where the scale is known."""
    if slide.view.mpp is None:
        return
    extent, mpp = slide.view.dimensions, slide.view.mpp[0]
    wanted = extent.width * mpp / 6
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    x, y = extent.width * 0.97, extent.height - extent.width * 0.025
    bar = Line2D([x - length / mpp, x], [y, y], color=_INK, linewidth=3, zorder=6)
    bar.set_path_effects([withStroke(linewidth=5.5, foreground="white", alpha=0.9)])
    axes.add_line(bar)
    text = axes.annotate(
        label,
        (x - length / mpp / 2, y),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=10,
        color=_INK,
        zorder=6,
    )
    text.set_path_effects([withStroke(linewidth=3, foreground="white", alpha=0.9)])


def _legend(slide: SlideSample) -> list[Artist]:
    handles: list[Artist] = []
    if slide.mask is not None:
        handles.append(Line2D([], [], color=_OUTLINE, linewidth=2, label="tissue"))
    if slide.chunks:
        handles.append(
            Patch(
                facecolor="none", edgecolor=_INK, linewidth=2, label="BigChunk, in the order drawn"
            )
        )
        count = len(slide.chunks[0].crops)
        handles.append(
            Patch(facecolor="none", edgecolor=_INK, label="its first SmallChunks, as on the right")
        )
        handles.append(
            Line2D([], [], linestyle="", marker="o", color=_INK, label=f"its first {count}")
        )
    return [*handles, *region_legend(slide.regions)]


def _draw_sheet(figure: SubFigure, slide: SlideSample, edges: tuple[float, float]) -> None:
    """A row of crops for each chunk, in its colour: one plot, which is drawn at once."""
    axes = figure.subplots()
    side = _MARGIN / (_WIDTH - _SLIDE_WIDTH)
    figure.subplots_adjust(side, edges[0], 1 - side, edges[1])
    width, height = slide.crop.width, slide.crop.height
    gap = max(width, height) * 0.05
    right = bottom = 0.0
    for row, chunk in enumerate(slide.chunks):
        top = row * (height + gap)
        for column, pixels in enumerate(chunk.shown):
            left = column * (width + gap)
            right, bottom = max(right, left + width), top + height
            extent = (left, left + width, bottom, top)
            axes.imshow(pixels, extent=extent, interpolation="antialiased")
            frame = Rectangle((left, top), width, height, fill=False, color=_COLOURS[row])
            frame.set(linewidth=1.8, clip_on=False)
            axes.add_patch(frame)
            if chunk.labels[column]:
                draw_label(axes, chunk.labels[column], slide.regions, (left + gap, top + gap))
        axes.text(
            -gap * 1.5,
            top + height / 2,
            str(row + 1),
            ha="right",
            va="center",
            fontsize=11,
            fontweight="bold",
            color=_COLOURS[row],
        )
    axes.set(xlim=(0, right), ylim=(bottom, 0), aspect="equal", anchor="N")
    axes.set_axis_off()


def _say(figure: SubFigure, words: str) -> None:
    figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=14, color=_INK)
