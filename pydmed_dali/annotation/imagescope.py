"""The XML of Aperio ImageScope and of HALO: a layer is a class, a negative region a hole in it."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element

import numpy as np

from pydmed_dali.annotation.outline import UNCLASSIFIED, Outline, Ring
from pydmed_dali.annotation.safe_xml import read_ring
from pydmed_dali.errors import AnnotationError

ROOT = "Annotations"

# ImageScope writes numbers, HALO words.
_FREEHAND, _RECTANGLES, _ELLIPSES = ("0", "polygon"), ("1", "rectangle"), ("2", "ellipse")
_WITH_AREA = (*_FREEHAND, *_RECTANGLES, *_ELLIPSES)
_YES, _NO = ("1", "true"), ("0", "false", "")
_ELLIPSE_CORNERS = 128  # an inscribed polygon of so many has 99.96% of the ellipse's area


def parse_imagescope(root: Element) -> list[Outline]:
    """The regions of an ImageScope or HALO file.

    A layer's class is its `Name`, or else the value of its attribute `Description`; where it has
    neither, the class of a region is its own `Text`. Corners are elements `Vertex`, of HALO `V`.
    Two corners of a rectangle are opposite ones. An ellipse, of which the file has the box, becomes
    a polygon of 128 corners.
    """
    return [
        _outline(region, f"layer {layer}, region {number}", layer, _class_name(element))
        for layer, element in enumerate(root.iterfind("Annotation"), 1)
        for number, region in enumerate(element.iterfind("Regions/Region"), 1)
    ]


def _class_name(layer: Element) -> str:
    """The class of a layer's regions, or an empty text."""
    names = [layer.get("Name", "")]
    for attribute in layer.iterfind("Attributes/Attribute"):
        if attribute.get("Name") == "Description":
            names.append(attribute.get("Value", ""))
    return next((name.strip() for name in names if name.strip()), "")


def _outline(region: Element, where: str, layer: int, class_name: str) -> Outline:
    kind = region.get("Type", _FREEHAND[0])
    shape = kind.strip().casefold()
    has_area = shape in _WITH_AREA
    ring = _ring(region, shape, where) if has_area else None
    text = region.get("Text", "").strip()
    return Outline(
        where,
        class_name or text or UNCLASSIFIED,
        text,
        f"type {kind}",
        () if ring is None else ((ring,),),
        layer,
        is_hole=_is_negative(region, where),
        is_named_by_text=bool(text and not class_name and has_area),
    )


def _ring(region: Element, shape: str, where: str) -> Ring | None:
    corners = [*region.iterfind("Vertices/Vertex"), *region.iterfind("Vertices/V")]
    ring = read_ring(corners, where)
    if shape in _ELLIPSES and len(ring):
        return _ellipse(ring)
    if shape in _RECTANGLES and len(ring) == 2:
        (left, top), (right, bottom) = ring.tolist()
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return ring if len(ring) else None


def _is_negative(region: Element, where: str) -> bool:
    told = region.get("NegativeROA", "")
    value = told.strip().casefold()
    if value not in (*_YES, *_NO):
        raise AnnotationError(f"{where}: its NegativeROA is {told[:20]!r}; expected 0 or 1")
    return value in _YES


def _ellipse(box: Ring) -> Ring:
    """The ellipse that fills the box of some points."""
    (left, top), (right, bottom) = box.min(axis=0).tolist(), box.max(axis=0).tolist()
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    turns = [2 * math.pi * corner / _ELLIPSE_CORNERS for corner in range(_ELLIPSE_CORNERS)]
    return np.array([(x + width / 2 * math.cos(t), y + height / 2 * math.sin(t)) for t in turns])
