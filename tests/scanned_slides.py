"""Leica SCN slides of which only a rectangle was scanned, written without the package's help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from pydmed_dali import Point, Size

Pixels = NDArray[np.uint8]

_NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"
_MACRO = 64


def write_scn(
    path: Path, pixels: Pixels, origin: Point, frame: Size, levels: int = 2, um: float = 0.25
) -> Path:
    """A slide of `frame` level-0 pixels, in which `pixels`, (height, width, 3), were scanned from
    `origin` on; each level has every fourth pixel of the one before, and none is lossy.
    """
    nm = round(um * 1000)
    height, width = pixels.shape[:2]
    pyramid = [pixels[:: 4**n, :: 4**n].copy() for n in range(levels)]
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{n}" ifd="{n + 1}"/>'
        for n, level in enumerate(pyramid)
    )
    text = (
        f'<?xml version="1.0"?><scn xmlns="{_NAMESPACE}"><collection name="c" '
        f'uuid="urn:uuid:0" sizeX="{frame.width * nm}" sizeY="{frame.height * nm}" barcode="">'
        + _image(
            "macro",
            Size(_MACRO, _MACRO),
            f'<dimension sizeX="{_MACRO}" sizeY="{_MACRO}" r="0" ifd="0"/>',
            Size(frame.width * nm, frame.height * nm),
            Point(0, 0),
        )
        + _image(
            "image",
            Size(width, height),
            dimensions,
            Size(width * nm, height * nm),
            Point(origin.x * nm, origin.y * nm),
        )
        + "</collection></scn>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, image in enumerate((np.full((_MACRO, _MACRO, 3), 220, np.uint8), *pyramid)):
            per_cm = 1e4 / (um * 4 ** max(number - 1, 0))
            file.write(
                image,
                tile=(128, 128),
                compression="adobe_deflate",
                photometric="rgb",
                description=text,
                metadata=None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    return path


def _image(name: str, size: Size, dimensions: str, view: Size, offset: Point) -> str:
    return (
        f'<image name="{name}" uuid="urn:uuid:{name}"><device model="x" version="1"/>'
        f'<pixels sizeX="{size.width}" sizeY="{size.height}">{dimensions}</pixels>'
        f'<view sizeX="{view.width}" sizeY="{view.height}" offsetX="{offset.x}" '
        f'offsetY="{offset.y}" spacingZ="0"/><scanSettings><objectiveSettings><objective>'
        f"{'0.6' if name == 'macro' else '40'}</objective></objectiveSettings>"
        "<illuminationSettings><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image>"
    )
