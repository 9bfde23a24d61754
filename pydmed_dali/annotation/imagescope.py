"""The XML of Aperio ImageScope: a layer is a class, a negative region a hole in its layer."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element

from pydmed_dali.annotation.outline import UNCLASSIFIED, Outline, Ring
from pydmed_dali.annotation.safe_xml import read_ring

ROOT = "Annotations"

_FREEHAND, _RECTANGLE, _ELLIPSE = "0", "1", "2"
_ELLIPSE_CORNERS = 128  # an inscribed polygon of so many has 99.96% of the ellipse's area


def parse_imagescope(root: Element) -> list[Outline]:
    """The regions of an ImageScope file.

    A layer's class is its `Name`, or else the value of its attribute `Description`. An ellipse, of
    which the file has the box, becomes a polygon of 128 corners.
    """
    return [
        _outline(region, f"layer {layer}, region {number}", layer, _class_name(element))
        for layer, element in enumerate(root.iterfind("Annotation"), 1)
        for number, region in enumerate(element.iterfind("Regions/Region"), 1)
    ]


def _class_name(layer: Element) -> str:
    names = [layer.get("Name", "")]
    for attribute in layer.iterfind("Attributes/Attribute"):
        if attribute.get("Name") == "Description":
            names.append(attribute.get("Value", ""))
    return next((name.strip() for name in names if name.strip()), UNCLASSIFIED)


def _outline(region: Element, where: str, layer: int, class_name: str) -> Outline:
    kind = region.get("Type", _FREEHAND)
    ring: Ring = ()
    if kind in (_FREEHAND, _RECTANGLE, _ELLIPSE):
        ring = read_ring(list(region.iterfind("Vertices/Vertex")), where)
    if kind == _ELLIPSE and ring:
        ring = _ellipse(ring)
    return Outline(
        where,
        class_name,
        region.get("Text", "").strip(),
        f"type {kind}",
        ((ring,),) if ring else (),
        layer,
        is_hole=region.get("NegativeROA", "0") == "1",
    )


def _ellipse(box: Ring) -> Ring:
    """The ellipse that fills the box of some points."""
    xs, ys = zip(*box, strict=True)
    x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    turns = (2 * math.pi * corner / _ELLIPSE_CORNERS for corner in range(_ELLIPSE_CORNERS))
    return tuple(
        (x + width / 2 * math.cos(turn), y + height / 2 * math.sin(turn)) for turn in turns
    )
