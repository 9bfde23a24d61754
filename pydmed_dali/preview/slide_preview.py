"""What a source draws from one slide: its first BigChunks and SmallChunks, by the plan alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from shapely import Polygon

from pydmed_dali.annotation.annotation import Annotations
from pydmed_dali.annotation.mask import classes_at
from pydmed_dali.annotation.reader import read_annotations
from pydmed_dali.dataset import Dataset
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.eligible import Eligible, scanned_places
from pydmed_dali.plan.placement import Placement, Placer, Positions
from pydmed_dali.plan.sampler import Sampler
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.slide import Pixels, Slide, SlideFacts
from pydmed_dali.slide.tissue_mask import TissueMask, overview
from pydmed_dali.slide.view import View
from pydmed_dali.worker.annotation_frame import place_annotations
from pydmed_dali.worker.annotation_plan import ReadingRules
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.tissue_places import TissuePlan, find_mask, tissue_places

_LONGEST = 1600  # of the slide's picture, in pixels


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """What a source would be asked for; as the options of `BigChunkSource`."""

    chunk: Size
    crop: Size
    level: int | None
    mpp: float | None
    seed: int
    tissue: TissuePlan | None
    """None to draw from the whole slide."""
    cache: Path | None
    """The folder where masks are kept; None keeps none."""
    chunks: int
    """BigChunks of each slide."""
    crops: int
    """SmallChunks of each BigChunk of which the places are shown."""
    shown: int
    """Of these, how many are shown themselves."""
    magnification: float | None = None
    default_mpp: float | None = None
    mpp_override: float | None = None
    annotations: Mapping[Path, Path] = field(default_factory=dict)
    """Annotation files, by the slide's path; shown, and nothing of them decides what is drawn."""
    rules: ReadingRules = field(default_factory=ReadingRules)
    """How these are read."""

    @property
    def scale(self) -> Scale:
        """At which resolution slides are read."""
        return Scale(self.level, self.mpp, self.magnification, self.default_mpp, self.mpp_override)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkSample:
    """One BigChunk and the first of its crops, in view pixels."""

    origin: Point
    """Its upper left corner on the slide."""
    size: Size
    """What of it lies on the slide."""
    crops: Positions
    """(crops, 2): (y, x) of each crop in the chunk."""
    shown: tuple[Pixels, ...]
    """The first crops themselves, (height, width, 3) uint8 each."""
    labels: tuple[str, ...]
    """In which annotated class the centre of each of these lies; empty for none."""


@dataclass(frozen=True, slots=True, eq=False)
class SlideSample:
    """A slide with what is drawn from it."""

    name: str
    """The slide, as it is called in the dataset."""
    picture: Pixels
    """All of it, (height, width, 3) uint8."""
    view: View
    """The resolution that is read: all places and sizes are in its pixels."""
    crop: Size
    """Size of a crop."""
    mask: TissueMask | None
    """None where the whole slide is drawn from."""
    eligible: float
    """Part of the places where a crop can start that are eligible."""
    chunks: tuple[ChunkSample, ...]
    """In the order in which they are drawn; none where no place is eligible."""
    regions: Mapping[str, Sequence[Polygon]]
    """What is annotated, by class, in view pixels."""

    @property
    def tissue(self) -> float | None:
        """Part of the slide that is tissue."""
        return None if self.mask is None else self.mask.share


Visits = Mapping[int, Sequence[tuple[int, Candidate]]]
"""By the slide's number: its visits in order, and the plan's choice for each."""


def first_visits(dataset: Dataset, seed: int, chunks: int) -> Visits:
    """The visits of the first `chunks` passes over the dataset, in which all slides can be read."""
    sampler = Sampler(dataset, seed)
    visits: dict[int, list[tuple[int, Candidate]]] = defaultdict(list)
    for visit in range(chunks * sampler.visits_per_pass):
        candidate = next(sampler.candidates(visit))
        visits[candidate.slide].append((visit, candidate))
    return visits


def sample_slide(
    name: str, path: Path, visits: Sequence[tuple[int, Candidate]], wishes: PreviewRequest
) -> SlideSample:
    """What these visits draw from the slide at `path`. Raises `SlideError`, as its reader does."""
    slide = BigChunkLoader().open_slide(path)
    try:
        view = wishes.scale.view(slide.facts, path)
        placer = Placer(wishes.seed, wishes.chunk, wishes.crop)
        mask, eligible, share = _eligible(path, slide, view, wishes)
        annotations, corner = _annotations(wishes.annotations.get(path), wishes.rules, slide.facts)
        chunks: list[ChunkSample] = []
        for visit, candidate in visits if share else ():
            place = placer.place(view.dimensions, view.tile, candidate, visit, eligible)
            crops = placer.crops(place, candidate, visit, wishes.crops)
            shown = _read(slide, view, place, crops[: wishes.shown], wishes.crop)
            labels = _labels(annotations, corner, view, place, crops[: wishes.shown], wishes.crop)
            chunks.append(ChunkSample(place.origin, place.size, crops, shown, labels))
        picture = overview(slide, _picture_size(slide.facts.dimensions))
        regions = _regions(annotations, corner, view)
        return SlideSample(name, picture, view, wishes.crop, mask, share, tuple(chunks), regions)
    finally:
        slide.close()


def _annotations(
    file: Path | None, rules: ReadingRules, facts: SlideFacts
) -> tuple[Annotations | None, Point]:
    """What a file annotates, and the level-0 pixel that is (0, 0) in it.

    Raises `AnnotationError` as its reader.
    """
    if file is None:
        return None, Point(0, 0)
    annotations = read_annotations(file, rules.exclusions, rules.max_bytes)
    return annotations, place_annotations(annotations, facts, rules.frame)


def _regions(
    annotations: Annotations | None, corner: Point, view: View
) -> dict[str, list[Polygon]]:
    """By class, in view pixels."""
    shift = np.array((corner.x, corner.y))
    found: dict[str, list[Polygon]] = {}
    for region in annotations.regions if annotations else ():
        found.setdefault(region.class_name, []).extend(
            shapely.transform(polygon, lambda places: (places + shift) / view.downsample)
            for polygon in region.polygons
        )
    return dict(sorted(found.items()))


def _labels(
    annotations: Annotations | None,
    corner: Point,
    view: View,
    place: Placement,
    crops: Positions,
    crop: Size,
) -> tuple[str, ...]:
    """The class of each crop's centre, the pixel (height // 2, width // 2)."""
    if annotations is None:
        return ("",) * len(crops)
    origin = (place.origin.x + crop.width // 2 + 0.5, place.origin.y + crop.height // 2 + 0.5)
    points = (crops[:, ::-1] + np.array(origin)) * np.array(view.downsample)
    points -= (corner.x, corner.y)
    names = ("", *annotations.classes)
    return tuple(names[number] for number in classes_at(annotations, annotations.classes, points))


def _eligible(
    path: Path, slide: Slide, view: View, wishes: PreviewRequest
) -> tuple[TissueMask | None, Eligible | None, float]:
    """(mask, eligible places, their part of all places)."""
    extent, crop = view.dimensions, wishes.crop
    mask, eligible = None, scanned_places(view.scanned, extent, crop)
    if wishes.tissue is not None:
        own, cache = wishes.tissue.masks.get(path), Cache(wishes.cache)
        mask = find_mask(path, slide, own, cache, wishes.scale)
        eligible = tissue_places(mask, view, crop, wishes.tissue.min_tissue)
    if eligible is None:
        return None, None, 1.0
    places = max(extent.width - crop.width + 1, 1) * max(extent.height - crop.height + 1, 1)
    return mask, eligible, eligible.count / places


def _read(
    slide: Slide, view: View, place: Placement, crops: Positions, crop: Size
) -> tuple[Pixels, ...]:
    shown, whole = [], [Region(Point(0, 0), crop)]
    for y, x in crops.tolist():
        pixels = np.empty((crop.height, crop.width, 3), np.uint8)
        corner = Point(place.origin.x + x, place.origin.y + y)
        BigChunkLoader().extract_bigchunk(slide, view, corner, pixels, whole)
        shown.append(pixels)
    return tuple(shown)


def _picture_size(dimensions: Size) -> Size:
    factor = min(_LONGEST / max(dimensions.width, dimensions.height), 1.0)
    return Size(max(round(dimensions.width * factor), 1), max(round(dimensions.height * factor), 1))
