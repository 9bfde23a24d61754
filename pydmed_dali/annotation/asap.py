"""The XML of ASAP: a group is a class."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from pydmed_dali.annotation.outline import UNCLASSIFIED, Outline
from pydmed_dali.annotation.safe_xml import read_ring

ROOT = "ASAP_Annotations"

_WITH_AREA = ("Polygon", "Rectangle", "Spline")
_NO_GROUP = "None"
_ORDER = re.compile("[0-9]{1,9}")


def parse_asap(root: Element) -> list[Outline]:
    """The annotations of an ASAP file. A spline's points are joined by straight lines."""
    found = root.iterfind("Annotations/Annotation")
    return [_outline(element, f"annotation {number}") for number, element in enumerate(found, 1)]


def _outline(element: Element, where: str) -> Outline:
    kind = element.get("Type", "no type")
    group = element.get("PartOfGroup", _NO_GROUP).strip()
    has_area = kind in _WITH_AREA
    corners = sorted(element.iterfind("Coordinates/Coordinate"), key=_order)
    return Outline(
        where,
        group if group not in ("", _NO_GROUP) else UNCLASSIFIED,
        element.get("Name", "").strip(),
        kind,
        ((read_ring(corners, where),),) if has_area else (),
    )


def _order(corner: Element) -> int:
    """Where the corner comes; without such numbers corners stay as they stand."""
    order = corner.get("Order", "")
    return int(order) if _ORDER.fullmatch(order) else 0
