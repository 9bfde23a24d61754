"""The picture of a demonstration: slides with what was read of them, and crops as they came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from pydmed_dali import BigChunkSource
from pydmed_dali.demo.crop_recorder import CropRecorder
from pydmed_dali.demo.slide_view import SlideView, caption, view_slides
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.text import printable

MOST_SLIDES = 12
"""Slides that fit in a picture; there are as many colours."""

_MOST_DOTS = 300  # a slide; more would hide what they lie on
_SHEET_ROWS, _SHEET_COLUMNS = 7, 7
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#e6ac00", "#cc79a7", "#56b4e9"),
    *("#7b3294", "#8c510a", "#1b7837", "#b2182b", "#4d4d4d", "#01665e"),
)
_INK, _LINE, _LEFT_OUT = "#1f2430", "#d1d5db", "#9aa0a8"
_LONGEST_NAME = 14


@dataclass(frozen=True, slots=True)
class CropView:
    """One crop as the picture shows it."""

    pixels: Pixels
    """(height, width, 3) uint8 RGB."""
    name: str
    """Its class, or without classes its slide."""


def draw_picture(
    path: Path, title: str, subtitle: str, source: BigChunkSource, trail: CropRecorder
) -> None:
    """Write a PNG to `path`: on the left the slides, on the right a sheet of the crops.

    A class, or without classes a slide, has one colour on both sides; at most 12 slides are shown.
    Of the source only what it was made with is needed: it may be closed.
    """
    slides = view_slides(source, trail, MOST_SLIDES)
    crops = [CropView(shown.pixels, caption(source, shown.row)) for shown in trail.shown]
    names = sorted({view.caption for view in slides})
    colours = dict(zip(names, _COLOURS, strict=False))
    figure = Figure(figsize=(18, 9.4), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.95, title, fontsize=17, fontweight="bold", color=_INK, parse_math=False)
    figure.text(0.02, 0.92, subtitle, fontsize=11, color=_INK, parse_math=False)
    ((left, right),) = figure.subfigures(1, 2, width_ratios=(1.4, 1), squeeze=False)
    _draw_slides(left, slides, colours)
    _draw_sheet(right, _evenly(crops, names), colours)
    figure.savefig(path, dpi=120)


def _draw_slides(
    figure: SubFigure, slides: Sequence[SlideView], colours: Mapping[str, str]
) -> None:
    columns = max(math.ceil(math.sqrt(1.1 * len(slides))), 1)
    rows = max(math.ceil(len(slides) / columns), 1)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    figure.subplots_adjust(0.028, 0.075, 0.98, 0.87, wspace=0.06, hspace=0.1)
    for place, view in zip(axes, slides, strict=False):
        _draw_slide(place, view, colours[view.caption])
    for place in axes[len(slides) :]:
        place.set_axis_off()
    handles: list[Artist] = [
        Patch(facecolor="none", edgecolor=_INK, label="BigChunk, read from the slide at once"),
        _dot(_INK, f"SmallChunk, cropped inside DALI (at most {_MOST_DOTS} a slide)"),
    ]
    if not all(view.used.all() for view in slides):
        handles.append(_dot(_LEFT_OUT, "left out: mostly bare glass"))
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, labelcolor=_INK)


def _draw_slide(axes: Axes, view: SlideView, colour: str) -> None:
    """Everything in level-0 pixels, which the thumbnail is stretched to."""
    width, height = view.size.width, view.size.height
    if view.pixels is not None:
        axes.imshow(view.pixels, extent=(0, width, height, 0), interpolation="antialiased")
    for box in view.chunks:
        place = (box.location.x, box.location.y)
        frame = Rectangle(place, box.size.width, box.size.height, fill=False, color=_INK)
        frame.set_path_effects([withStroke(linewidth=2.4, foreground="white", alpha=0.7)])
        axes.add_patch(frame)
    shown = np.linspace(0, len(view.centres) - 1, min(len(view.centres), _MOST_DOTS)).astype(int)
    x, y = view.centres[shown].T
    dots = np.where(view.used[shown], colour, _LEFT_OUT)
    axes.scatter(x, y, s=7, c=dots, edgecolors="white", linewidths=0.3, zorder=2)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal", anchor="N")
    axes.set_title(printable(view.name), fontsize=9, color=colour, pad=3, parse_math=False)
    axes.spines[:].set_color(_LINE)


def _draw_sheet(figure: SubFigure, crops: Sequence[CropView], colours: Mapping[str, str]) -> None:
    axes = figure.subplots(_SHEET_ROWS, _SHEET_COLUMNS).flatten().tolist()
    figure.subplots_adjust(0.02, 0.075, 0.97, 0.87, wspace=0.05, hspace=0.2)
    for place in axes[len(crops) :]:
        place.set_axis_off()
    for place, crop in zip(axes, crops, strict=False):
        place.imshow(crop.pixels, interpolation="antialiased")
        place.set(xticks=[], yticks=[])
        place.set_title(
            _shortened(printable(crop.name)),
            fontsize=8,
            color=colours[crop.name],
            pad=2,
            parse_math=False,
        )
        place.spines[:].set(color=colours[crop.name], linewidth=1.6)
    figure.text(
        0.5,
        0.022,
        "crops as the network gets them: mirrored, turned, and stained a little differently",
        fontsize=10,
        color=_INK,
        ha="center",
    )


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker="o", markersize=4, color=colour, label=label)


def _evenly(crops: Sequence[CropView], names: Iterable[str]) -> list[CropView]:
    """As many crops as fit on the sheet, about as many of each name, sorted by name."""
    groups = [[crop for crop in crops if crop.name == name] for name in names]
    dealt = [crop for turn in zip_longest(*groups) for crop in turn if crop is not None]
    return sorted(dealt[: _SHEET_ROWS * _SHEET_COLUMNS], key=lambda crop: crop.name)


def _shortened(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
