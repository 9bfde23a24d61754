"""Valid polygons from outlines: repaired where they cross themselves, holes cut out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon, STRtree
from shapely.geometry.base import BaseGeometry

from pydmed_dali.annotation.class_names import is_among
from pydmed_dali.annotation.crossings import Repairs, parts_of
from pydmed_dali.annotation.outline import Outline, Ring

Polygons = tuple[Polygon, ...]

_TOO_FEW = "fewer than 3 corners"


@dataclass(slots=True)
class Notes:
    """What is remarkable about outlines: their position in the file, and what messages say."""

    repaired: list[tuple[int, str]] = field(default_factory=list)
    left_out: list[tuple[int, str]] = field(default_factory=list)


def build_polygons(
    outlines: Sequence[Outline], exclusions: Collection[str]
) -> tuple[list[tuple[Outline, Polygons]], Notes]:
    """The polygons of each outline that has an area left, and what is repaired or left out.

    Holes are cut out of their layer, and outlines of the classes `exclusions` out of all others.
    Raises `AnnotationError` for an outline that crosses itself too often to be repaired.
    """
    notes = Notes()
    built = _build(outlines, notes)
    excluded = {name for name in {o.class_name for o in outlines} if is_among(name, exclusions)}
    positions, cuts = _sort_out(outlines, built, excluded)
    for layer, cut in cuts.items():
        of_layer = [n for n in positions if outlines[n].layer == layer]
        for n in _cut(of_layer, built, cut):
            notes.left_out.append((n, f"{outlines[n].where}: wholly cut out"))
    for notes_of in (notes.repaired, notes.left_out):
        notes_of.sort(key=lambda note: note[0])
    return [(outlines[n], tuple(built[n])) for n in positions if built[n]], notes


def _sort_out(
    outlines: Sequence[Outline], built: Sequence[list[Polygon]], excluded: Collection[str]
) -> tuple[list[int], dict[int, BaseGeometry]]:
    """The positions of regions, and what is to be cut out of those of each layer."""
    everywhere: list[Polygon] = []
    holes: dict[int, list[Polygon]] = {outline.layer: [] for outline in outlines}
    positions = []
    for position, outline in enumerate(outlines):
        if outline.class_name in excluded:
            everywhere += built[position]
        elif outline.is_hole:
            holes[outline.layer] += built[position]
        else:
            positions.append(position)
    cuts = {n: shapely.union_all([*everywhere, *cut]) for n, cut in holes.items()}
    return positions, {layer: cut for layer, cut in cuts.items() if not cut.is_empty}


def _build(outlines: Sequence[Outline], notes: Notes) -> list[list[Polygon]]:
    """The valid polygons of each outline, all of a file at once."""
    built: list[list[Polygon]] = [[] for _ in outlines]
    owners: list[int] = []
    rings: list[tuple[Ring, ...]] = []
    for position, outline in enumerate(outlines):
        if not outline.polygons:
            notes.left_out.append((position, f"{outline.where}: {outline.kind}"))
        owners += [position] * len(outline.polygons)
        rings += outline.polygons
    polygons = _polygons_of(rings)
    valid = shapely.is_valid(polygons)
    repairs = Repairs()
    for owner, polygon, is_valid in zip(owners, polygons, valid.tolist(), strict=True):
        outline = outlines[owner]
        if polygon is None:
            notes.left_out.append((owner, f"{outline.where}: {_TOO_FEW}"))
        elif is_valid:
            built[owner].append(polygon)
        elif parts := repairs.parts(polygon, outline.where):
            reason = shapely.is_valid_reason(polygon)
            notes.repaired.append((owner, f"{outline.where} {outline.class_name!r}: {reason}"))
            built[owner] += parts
        else:
            notes.left_out.append((owner, f"{outline.where}: corners on a line"))
    return built


def _polygons_of(polygons: Sequence[tuple[Ring, ...]]) -> NDArray[np.object_]:
    """A polygon of each sequence of rings, maybe invalid; None where the outer ring is flat."""
    found = np.full(len(polygons), None, np.object_)
    rings = [ring for polygon in polygons for ring in polygon]
    if not rings:
        return found
    polygon_of = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    is_outer = np.diff(polygon_of, prepend=-1) > 0
    flat = _are_flat(rings)
    lost = np.isin(polygon_of, polygon_of[is_outer & flat])
    kept = ~flat & ~lost
    if not kept.any():
        return found
    chosen = [rings[n] for n in np.flatnonzero(kept).tolist()]
    ring_of = np.repeat(np.arange(len(chosen)), [len(ring) for ring in chosen])
    made = shapely.linearrings(np.concatenate(chosen), indices=ring_of)
    numbers, positions = np.unique(polygon_of[kept], return_inverse=True)
    found[numbers] = shapely.polygons(np.asarray(made), indices=positions)
    return found


def _are_flat(rings: Sequence[Ring]) -> NDArray[np.bool_]:
    """Whether each ring has fewer than 3 distinct corners: all with an area of 0 are looked at."""
    flat = np.array([len(ring) < 3 for ring in rings])
    where = np.flatnonzero(~flat)
    if len(where):
        some = [rings[n] for n in where.tolist()]
        lengths = np.array([len(ring) for ring in some])
        first = np.cumsum(lengths) - lengths
        corners = np.concatenate(some)
        corners = corners - np.repeat(corners[first], lengths, axis=0)
        ahead = np.roll(corners, -1, axis=0)  # beyond a ring's last corner only its own (0, 0)
        ahead[first + lengths - 1] = 0
        areas = np.add.reduceat(corners[:, 0] * ahead[:, 1] - ahead[:, 0] * corners[:, 1], first)
        for n in where[areas == 0].tolist():
            flat[n] = len(np.unique(rings[n], axis=0)) < 3
    return flat


def _cut(positions: Sequence[int], built: list[list[Polygon]], cut: BaseGeometry) -> list[int]:
    """Cut a geometry out of the polygons of some outlines; of which nothing is left.

    Only where an outline crosses that of the cut does it cost.
    """
    owners = [position for position in positions for _ in built[position]]
    polygons = [polygon for position in positions for polygon in built[position]]
    pieces = shapely.get_parts(cut)
    tree = STRtree(polygons)
    touching: dict[int, list[Polygon]] = {}
    for piece, n in tree.query(pieces, predicate="intersects").T.tolist():
        touching.setdefault(n, []).append(pieces[piece])
    within = set(tree.query(pieces, predicate="contains_properly")[1].tolist())
    changed = {owners[n]: None for n in sorted(touching)}
    for owner in changed:
        built[owner] = []
    for n, (owner, polygon) in enumerate(zip(owners, polygons, strict=True)):
        if owner in changed and n not in within:
            near = touching.get(n)
            built[owner] += [polygon] if near is None else _without(polygon, near)
    return [owner for owner in changed if not built[owner]]


def _without(polygon: Polygon, pieces: Sequence[Polygon]) -> list[Polygon]:
    # Pieces of one geometry touch each other in points at most: no union is needed.
    return parts_of(polygon.difference(MultiPolygon(pieces)))
