"""GeoJSON, as QuPath and others write it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from reprlib import repr as short

from pydmed_dali.annotation.outline import UNCLASSIFIED, Outline, Ring, check_number
from pydmed_dali.errors import AnnotationError

Polygons = tuple[tuple[Ring, ...], ...]


def parse_geojson(data: bytes) -> list[Outline]:
    """The features of a FeatureCollection, of a list, or of one Feature.

    The class is `properties.classification` (its `name`, its `names` joined by `: `, or itself a
    text), else `properties.label_name`, else `properties.label`. Raises `AnnotationError`, and
    `RecursionError` for JSON that is nested too deeply.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except ValueError as error:
        raise AnnotationError(f"it is no JSON: {error}") from error
    return [_outline(feature, f"feature {n}") for n, feature in enumerate(_features(document), 1)]


def _refuse_constant(name: str) -> float:
    raise AnnotationError(f"it holds the number {name}; coordinates are pixels of level 0")


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
    return Outline(
        where,
        _class_name(properties, where) or UNCLASSIFIED,
        _text(properties.get("name"), where, "name"),
        str(geometry.get("type", "no geometry")),
        tuple(_polygons(geometry, where)),
    )


def _class_name(properties: dict[str, object], where: str) -> str:
    classification = properties.get("classification")
    if isinstance(classification, dict):
        names = classification.get("names")
        if isinstance(names, list) and names:
            classification = ": ".join(_text(name, where, "class") for name in names)
        else:
            classification = classification.get("name")
    values = (classification, properties.get("label_name"), properties.get("label"))
    return next(filter(None, (_text(value, where, "class") for value in values)), "")


def _text(value: object, where: str, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise AnnotationError(f"{where}: its {what} is {short(value)}; expected a text")
    return str(value).strip()


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
        tuple(_corner(corner, where) for corner in _list(ring, where))
        for ring in _list(polygon, where)
    )


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
