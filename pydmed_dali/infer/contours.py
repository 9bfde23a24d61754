"""Pictures of classes as outlines that QuPath imports."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import tifffile

from pydmed_dali.errors import OptionError
from pydmed_dali.infer.class_map import COLOURS, Classes
from pydmed_dali.slide.frame import check_frame

logger = logging.getLogger("pydmed_dali.infer")


def contours(
    picture: str | os.PathLike[str],
    names: Mapping[int, str],
    file: str | os.PathLike[str],
    level: int = 0,
    frame: str = "auto",
) -> None:
    """Write the outlines of some classes of a picture that `segment` wrote, as GeoJSON.

    Args:
        picture: the TIFF.
        names: what the classes that are wanted are called, by number.
        file: the GeoJSON to write: a FeatureCollection of a MultiPolygon for each class, with
            holes, in level-0 pixels, along the borders of the picture's pixels.
        level: of the picture's pyramid, each half as large as the one before: a coarse one has
            outlines that viewers show at once, of large pictures.
        frame: of a slide of which a rectangle was scanned (MIRAX, Leica and others): `bounds`
            counts from the corner of what was scanned, as QuPath shows it; `slide` from that of all
            that OpenSlide shows. `auto` is `bounds`, and the log says so.

    Raises `OptionError` for a picture that `segment` did not write, and for a level that it has
    not.
    """
    check_frame(frame)
    with tifffile.TiffFile(picture) as opened:
        try:
            told = json.loads(opened.pages.first.description)
            step = np.array(told["pixel_level0"], np.float64)
            bounds = told.get("bounds")
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{picture} does not tell the size of its pixels: segment writes ones that do"
            ) from error
        levels = opened.series[0].levels
        if not 0 <= level < len(levels):
            raise OptionError(
                f"level={level} was asked for, and {picture} has the levels 0..{len(levels) - 1}"
            )
        classes = levels[level].asarray()
    corner = np.zeros(2)
    if bounds is not None and frame != "slide":
        corner = np.array(bounds[:2], np.float64)
        if frame == "auto":
            logger.warning(
                "%s: its outlines count from the corner of what was scanned, (%d, %d) of the "
                "slide, as QuPath shows it; frame='slide' or 'bounds' says otherwise",
                *(picture, *bounds[:2]),
            )
    features = [
        _feature(
            classes == number,
            name,
            COLOURS[(number - 1) % len(COLOURS)],
            step * 2**level,
            corner,
        )
        for number, name in names.items()
        if (classes == number).any()
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    Path(file).write_text(text)


def _feature(
    mask: np.ndarray,
    name: str,
    colour: tuple[int, int, int],
    step: np.ndarray,
    corner: np.ndarray,
) -> dict[str, Any]:
    boxes = np.array(list(_runs(mask)), np.float64)
    united = shapely.union_all(shapely.box(*(boxes * np.tile(step, 2) - np.tile(corner, 2)).T))
    parts = [part for part in shapely.get_parts(united) if part.area]
    return {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(shapely.MultiPolygon(parts)),
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": list(colour)},
        },
    }


def _runs(mask: Classes | np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of runs of pixels along rows; equal ones of neighbouring rows are
    one.
    """
    under_way: dict[tuple[int, int], int] = {}
    for row in range(len(mask) + 1):
        found: set[tuple[int, int]] = set()
        if row < len(mask):
            borders = np.flatnonzero(np.diff(mask[row].astype(np.int8), prepend=0, append=0))
            found = {(int(a), int(b)) for a, b in borders.reshape(-1, 2)}
        for left, right in [run for run in under_way if run not in found]:
            yield left, under_way.pop((left, right)), right, row
        for run in found:
            under_way.setdefault(run, row)
