"""GeoJSON, as QuPath and others write it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from itertools import chain
from reprlib import repr as short
from typing import Any

import numpy as np

from pydmed_dali.annotation.defaults import LARGEST
from pydmed_dali.annotation.outline import UNCLASSIFIED, Outline, Ring, check_number
from pydmed_dali.errors import AnnotationError

Polygons = tuple[tuple[Ring, ...], ...]


def parse_geojson(data: bytes) -> list[Outline]:
    """The features of a FeatureCollection, of a list, or of one Feature.

    The class is `properties.classification` (its `name`, its `names` joined by `: `, or itself a
    text, a number or a list), else `properties.label_name`, else `properties.label`. Other
    properties may hold anything. Raises `AnnotationError`, and `RecursionError` for JSON that is
    nested too deeply.
    """
    try:
        document = json.loads(data, object_hook=_packed)
    except UnicodeDecodeError as error:
        raise AnnotationError(f"it is no JSON: {error}; save it in UTF-8") from error
    except ValueError as error:
        raise AnnotationError(f"it is no JSON: {error}") from error
    outlines = [
        _outline(feature, f"feature {n}") for n, feature in enumerate(_features(document), 1)
    ]
    _check_numbers(outlines)
    return outlines


def _packed(value: dict[str, Any]) -> dict[str, Any]:
    """A geometry with its rings as arrays, a hundredth of the objects; others as they are.

    Called for every object of the document. Rings that are not plain are left for `_ring`, which
    says what is wrong with them.
    """
    kind, coordinates = value.get("type"), value.get("coordinates")
    if kind == "Polygon" and type(coordinates) is list:
        value["coordinates"] = list(map(_array, coordinates))
    elif kind == "MultiPolygon" and type(coordinates) is list:
        value["coordinates"] = [
            list(map(_array, polygon)) if type(polygon) is list else polygon
            for polygon in coordinates
        ]
    return value


def _array(ring: Any) -> Any:
    try:
        if set(map(len, ring)) != {2}:
            return ring
        numbers = list(chain.from_iterable(ring))
        if not set(map(type, numbers)) <= {float, int}:
            return ring
        return np.frombuffer(array("d", numbers)).reshape(-1, 2)
    except (TypeError, OverflowError):
        return ring


def _features(document: object) -> list[object]:
    kind = document.get("type") if isinstance(document, dict) else None
    features = document
    if isinstance(document, dict):
        features = document.get("features") if kind == "FeatureCollection" else [document]
    if not isinstance(features, list) or kind not in ("FeatureCollection", "Feature", None):
        raise AnnotationError(
            f"its outermost value is {short(document)}; expected a FeatureCollection, a Feature or "
            "a list of Features"
        )
    return features


def _outline(feature: object, where: str) -> Outline:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise AnnotationError(f"{where} is {short(feature)}; expected a Feature")
    properties = feature.get("properties") or {}
    geometry = feature.get("geometry") or {}
    if not isinstance(properties, dict) or not isinstance(geometry, dict):
        raise AnnotationError(f"{where}: properties and geometry must be objects")
    name = properties.get("name")
    return Outline(
        where,
        _class_name(properties, where) or UNCLASSIFIED,
        "" if name is None else name.strip() if isinstance(name, str) else short(name),
        str(geometry.get("type", "no geometry")),
        tuple(_polygons(geometry, where)),
    )


def _class_name(properties: dict[str, object], where: str) -> str:
    for key in ("classification", "label_name", "label"):
        value = properties.get(key)
        if isinstance(value, dict):
            value = value.get("names") or value.get("name")
        if name := _class_text(value, where):
            return name
    return ""


def _class_text(value: object, where: str) -> str:
    """A class as text: names in a list are joined as QuPath joins them."""
    if isinstance(value, list):
        return ": ".join(filter(None, (_class_part(part, value, where) for part in value)))
    return _class_part(value, value, where)


def _class_part(part: object, value: object, where: str) -> str:
    if part is None:
        return ""
    if not isinstance(part, str | int | float):
        raise AnnotationError(
            f"{where}: its class is {short(value)}; expected a text, a number or a list of them"
        )
    return (part if isinstance(part, str) else json.dumps(part)).strip()


def _polygons(geometry: dict[str, object], where: str) -> Iterator[tuple[Ring, ...]]:
    """The polygons of a geometry; nothing for points and lines, which have no area."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "Polygon":
        yield _rings(coordinates, where)
    elif kind == "MultiPolygon":
        for polygon in _list(coordinates, where):
            yield _rings(polygon, where)
    elif kind == "GeometryCollection":
        for member in _list(geometry.get("geometries"), where):
            if not isinstance(member, dict):
                raise AnnotationError(f"{where}: {short(member)} is no geometry")
            yield from _polygons(member, where)


def _rings(polygon: object, where: str) -> tuple[Ring, ...]:
    return tuple(
        ring if isinstance(ring, np.ndarray) else _ring(ring, where)
        for ring in _list(polygon, where)
    )


def _ring(ring: object, where: str) -> Ring:
    corners = [_corner(corner, where) for corner in _list(ring, where)]
    return np.array(corners, np.float64).reshape(-1, 2)


def _corner(corner: object, where: str) -> tuple[float, float]:
    x, y, *_ = [*_list(corner, where), None, None]
    return _number(x, where), _number(y, where)


def _number(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise AnnotationError(f"{where}: the coordinate {short(value)} is no number")
    return check_number(value, where)


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise AnnotationError(f"{where}: {short(value)} stands where a list of coordinates should")
    return value


def _check_numbers(outlines: list[Outline]) -> None:
    """Raise `AnnotationError` for a coordinate that is none: all are looked at together first."""
    rings = [ring for outline in outlines for polygon in outline.polygons for ring in polygon]
    corners = np.concatenate([*rings, np.empty((0, 2))])
    if (np.abs(corners) <= LARGEST).all():
        return
    for outline in outlines:
        for polygon in outline.polygons:
            for number in chain.from_iterable(ring.ravel().tolist() for ring in polygon):
                check_number(number, outline.where)
