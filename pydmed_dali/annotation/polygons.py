"""Valid polygons from outlines: repaired where they cross themselves, holes cut out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from pydmed_dali.annotation.class_names import is_among
from pydmed_dali.annotation.outline import Outline, Ring
from pydmed_dali.wording import some

logger = logging.getLogger("pydmed_dali.annotation")

Polygons = tuple[Polygon, ...]


def build_polygons(
    path: Path, outlines: Sequence[Outline], exclusions: Collection[str]
) -> list[tuple[Outline, Polygons]]:
    """The polygons of each outline that has an area left.

    Holes are cut out of their layer, and outlines of the classes `exclusions` out of all others.
    What is repaired or left out is logged as a warning that names the file and the outlines.
    """
    repaired: list[str] = []
    left_out: list[str] = []
    built = [(outline, _build(outline, repaired, left_out)) for outline in outlines]
    regions, cuts = _sort_out(built, exclusions)
    results = []
    for outline, polygons in regions:
        rest = _cut(polygons, cuts[outline.layer])
        if rest:
            results.append((outline, rest))
        elif polygons:
            left_out.append(f"{outline.where}: wholly cut out")
    _warn(path, len(outlines), "cross themselves and were repaired", repaired)
    _warn(path, len(outlines), "have no area and are left out", left_out)
    return results


def _sort_out(
    built: Sequence[tuple[Outline, Polygons]], excluded: Collection[str]
) -> tuple[list[tuple[Outline, Polygons]], dict[int, BaseGeometry]]:
    """The regions, and what is to be cut out of those of each layer."""
    everywhere: list[Polygon] = []
    holes: dict[int, list[Polygon]] = {outline.layer: [] for outline, _ in built}
    regions = []
    for outline, polygons in built:
        if is_among(outline.class_name, excluded):
            everywhere += polygons
        elif outline.is_hole:
            holes[outline.layer] += polygons
        else:
            regions.append((outline, polygons))
    return regions, {n: shapely.union_all([*everywhere, *cut]) for n, cut in holes.items()}


def _build(outline: Outline, repaired: list[str], left_out: list[str]) -> Polygons:
    polygons: list[Polygon] = []
    if not outline.polygons:
        left_out.append(f"{outline.where}: {outline.kind}")
    for rings in outline.polygons:
        if not rings or _is_flat(rings[0]):
            left_out.append(f"{outline.where}: fewer than 3 corners")
            continue
        polygon = Polygon(rings[0], [ring for ring in rings[1:] if not _is_flat(ring)])
        if polygon.is_valid:
            polygons.append(polygon)
            continue
        reason = shapely.is_valid_reason(polygon)
        parts = _parts(shapely.make_valid(polygon, method="structure", keep_collapsed=False))
        polygons += parts
        if parts:
            repaired.append(f"{outline.where} {outline.class_name!r}: {reason}")
        else:
            left_out.append(f"{outline.where}: corners on a line")
    return tuple(polygons)


def _is_flat(ring: Ring) -> bool:
    return len(set(ring)) < 3


def _parts(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons in a geometry; points and lines that an operation left are dropped."""
    if isinstance(geometry, Polygon):
        return [geometry] if geometry.area else []
    if isinstance(geometry, MultiPolygon) or geometry.geom_type == "GeometryCollection":
        return [part for member in shapely.get_parts(geometry) for part in _parts(member)]
    return []


def _cut(polygons: Polygons, cut: BaseGeometry) -> Polygons:
    if not cut.intersects(MultiPolygon(polygons)):
        return polygons
    return tuple(part for polygon in polygons for part in _parts(polygon.difference(cut)))


def _warn(path: Path, count: int, what: str, notes: Sequence[str]) -> None:
    if notes:
        observed = f"{len(notes)} of {count} annotations {what} ({some(notes)})"
        logger.warning("%s: %s", path, observed)
