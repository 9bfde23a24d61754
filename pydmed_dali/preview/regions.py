"""Annotated regions in a picture: filled thinly and outlined, a colour for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch
from matplotlib.path import Path
from shapely import Polygon
from shapely.geometry.polygon import orient

_COLOURS = ("#aa3377", "#4477aa", "#ccbb44", "#228833", "#ee6677", "#66ccee", "#7d5a3c", "#555555")
"""P. Tol's bright scheme, told apart by colour-blind people too, and two more."""

_FILL = 0.28

Regions = Mapping[str, Sequence[Polygon]]
"""By class: polygons with their holes."""


def draw_regions(axes: Axes, regions: Regions) -> None:
    """Draw them in the coordinates of `axes`, below chunks and crops."""
    for number, polygons in enumerate(regions.values()):
        colour = _colour(number)
        paths = [_path(polygon) for polygon in polygons]
        for edge, width, face in (
            ("white", 3.0, "none"),
            (colour, 1.6, to_rgba(colour, _FILL)),
        ):
            axes.add_collection(
                PathCollection(paths, facecolor=face, edgecolor=edge, linewidth=width, zorder=2)
            )


def region_legend(regions: Regions) -> list[Artist]:
    """A patch for each class, with its name."""
    return [
        Patch(
            facecolor=to_rgba(_colour(number), _FILL),
            edgecolor=_colour(number),
            label=name.replace("$", r"\$"),
        )
        for number, name in enumerate(regions)
    ]


def draw_label(axes: Axes, name: str, regions: Regions, place: tuple[float, float]) -> None:
    """The name of a class in its colour, with its upper left corner at `place`."""
    axes.text(
        *place,
        name,
        ha="left",
        va="top",
        fontsize=7,
        color="white",
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": _colour(list(regions).index(name))},
    )


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _path(polygon: Polygon) -> Path:
    """The border and, as subpaths of the other sense, the holes, which are left unfilled."""
    sensed = orient(polygon)
    rings = [np.asarray(ring.coords) for ring in (sensed.exterior, *sensed.interiors)]
    return Path.make_compound_path(*(Path(ring, closed=True) for ring in rings))
