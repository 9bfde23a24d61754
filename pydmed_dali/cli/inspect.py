"""`pydmed-dali inspect`: what slide files say of themselves, and whether they can be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pydmed_dali.annotation.reader import read_annotations
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import AnnotationError, DatasetError, PydmedError, SlideReadError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.pool.annotation_files import ANNOTATION_ENDINGS
from pydmed_dali.pool.companion_files import companion_names
from pydmed_dali.slide.cache import Cache, cache_folder
from pydmed_dali.slide.scale import objective_power
from pydmed_dali.slide.slide import Slide, SlideFacts
from pydmed_dali.slide.tissue_mask import mask_size, overview_level
from pydmed_dali.text import paragraph, printable
from pydmed_dali.worker.annotation_frame import place_annotations
from pydmed_dali.worker.annotation_plan import ReadingRules
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.tissue_places import find_mask

_PROBE = 64  # side in pixels of the region that must be readable
_MOST_READ = 200_000_000  # pixels that are read for the tissue: some seconds
_RULES = ReadingRules()


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found out about one slide file."""

    path: Path
    facts: SlideFacts | None
    """None where the slide cannot be opened."""
    problem: str | None
    """Why the slide cannot be opened or read; None for a good one."""
    tissue: float | None
    """Part of the slide that is tissue by the computed mask; None where that takes too long, since
    there is no coarse level to see it on, or cannot be computed."""
    areas: Mapping[str, float] = field(default_factory=dict)
    """By the annotation file beside the slide, where there is one: level-0 pixels of each class."""
    annotation_problem: str | None = None
    """Why the annotation file beside the slide cannot be used."""
    is_folder: bool = False
    """Whether it is no slide, but a folder in which none was found."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes are [width, height] in pixels of their level."""
        told: dict[str, Any] = {
            "path": str(self.path),
            "readable": self.problem is None,
            "reason": self.problem,
        }
        if self.facts is None:
            return told
        tissue = None if self.tissue is None else round(self.tissue, 4)
        told = {**told, **_facts_as_dict(self.facts), "tissue": tissue}
        if self.areas or self.annotation_problem:
            told["annotated_areas"] = dict(self.areas)
            told["annotation_problem"] = self.annotation_problem
        return told


def inspect_slides(paths: Iterable[Path], rules: ReadingRules = _RULES) -> list[Inspection]:
    """Inspect slide files, and for a folder every slide below it, one after the other.

    A slide is good if it opens and a small region at the centre of level 0 can be read. A bad slide
    is told in its `Inspection`, and so is a folder without slides.
    """
    found: list[Inspection] = []
    for path in paths:
        try:
            slides = _slides_at(path)
        except DatasetError as error:
            found.append(Inspection(path, None, str(error), None, is_folder=True))
        else:
            found += [inspect_slide(slide, rules) for slide in slides]
    return found


def inspect_slide(path: Path, rules: ReadingRules = _RULES) -> Inspection:
    """Open one slide and read a small region of it; what is found out is kept for later runs.

    The annotation file beside it is read by the `rules`.
    """
    facts = tissue = None
    loader = BigChunkLoader()
    loader.cache = Cache(cache_folder(None))
    try:
        slide = loader.open_slide(path)
        try:
            facts = slide.facts
            _read_probe(slide)
            tissue = _tissue(path, slide)
        finally:
            slide.close()
    except PydmedError as error:
        return Inspection(path, facts, str(error), None)
    except Exception as error:
        return Inspection(path, facts, f"{path}: {error!r}", None)
    return Inspection(path, facts, None, tissue, *_drawn(path, facts, rules))


def show_inspections(console: Console, inspections: Iterable[Inspection]) -> None:
    """Print one table a slide."""
    for inspection in inspections:
        mark = "[green]✓[/]" if inspection.problem is None else "[red]✗[/]"
        console.print(mark, end=" ")
        console.print(printable(inspection.path), style="bold", markup=False, soft_wrap=True)
        console.print(_table(inspection))
        console.print()


def _slides_at(path: Path) -> list[Path]:
    """The slides below a folder, or the file itself."""
    if not os.path.isdir(path):
        return [path]
    return [record.path for record in Dataset.from_folder(path).slides]


def _read_probe(slide: Slide) -> None:
    size = slide.facts.dimensions
    pixels = np.empty((min(_PROBE, size.height), min(_PROBE, size.width), 3), np.uint8)
    centre = Point((size.width - pixels.shape[1]) // 2, (size.height - pixels.shape[0]) // 2)
    slide.read_into(pixels, centre, 0)


def _tissue(path: Path, slide: Slide) -> float | None:
    facts = slide.facts
    level = overview_level(facts, mask_size(facts))
    if facts.level_dimensions[level].area > _MOST_READ:
        return None
    try:
        return find_mask(path, slide, None, Cache(cache_folder(None))).share
    except SlideReadError:
        return None


def _drawn(
    path: Path, facts: SlideFacts, rules: ReadingRules
) -> tuple[Mapping[str, float], str | None]:
    """(area of each class, why they are unknown) by the annotation file beside a slide."""
    file = next(
        (name for name in companion_names(path, ANNOTATION_ENDINGS) if os.path.isfile(name)), None
    )
    if file is None or file == path:
        return {}, None
    try:
        annotations = read_annotations(file, rules.exclusions, rules.max_bytes)
        place_annotations(annotations, facts, rules.frame)
    except AnnotationError as error:
        return {}, str(error)
    return annotations.areas, None


def _facts_as_dict(facts: SlideFacts) -> dict[str, Any]:
    power = objective_power(facts)
    levels = zip(facts.level_dimensions, facts.level_downsamples, facts.tile_sizes, strict=True)
    return {
        "vendor": facts.vendor,
        "reader": facts.reader,
        "reader_reason": facts.reader_reason,
        "dimensions": _pair(facts.dimensions),
        "levels": [
            {
                "dimensions": _pair(size),
                "downsample": downsample,
                "tile": None if tile is None else _pair(tile),
                "magnification": power and power / downsample,
            }
            for size, downsample, tile in levels
        ],
        "mpp": None if facts.mpp is None else list(facts.mpp),
        "objective_power": facts.objective_power,
        "background": list(facts.background),
        "background_reason": facts.background_reason,
        "bounds": _corners(facts.bounds),
        "remarks": list(facts.remarks),
    }


def _corners(bounds: Region | None) -> list[int] | None:
    """[x, y, width, height] in level-0 pixels; None for the whole slide."""
    return None if bounds is None else [bounds.location.x, bounds.location.y, *_pair(bounds.size)]


def _pair(size: Size) -> list[int]:
    return [size.width, size.height]


def _table(inspection: Inspection) -> Table:
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if inspection.problem is not None:
        table.add_row("reason", Text(paragraph(inspection.problem), style="red"))
    for name, value in _rows(inspection.facts) if inspection.facts else ():
        table.add_row(name, Text(value))
    if inspection.tissue is not None:
        table.add_row("tissue", Text(f"{inspection.tissue:.1%} of the slide"))
    for name, area in inspection.areas.items():
        table.add_row("annotated", Text(f"{printable(name)}: {area:,.0f} pixels of level 0"))
    if inspection.annotation_problem is not None:
        table.add_row("annotations", Text(paragraph(inspection.annotation_problem), style="red"))
    return table


def _rows(facts: SlideFacts) -> Iterator[tuple[str, str]]:
    """What a reader of the table is told of a slide that opened."""
    yield "vendor", facts.vendor
    yield "reader", f"{facts.reader}: {facts.reader_reason}"
    yield "dimensions", f"{facts.dimensions} pixels"
    yield "scanned", _told_bounds(facts.bounds)
    power = objective_power(facts)
    for level, size in enumerate(facts.level_dimensions):
        tile = facts.tile_sizes[level]
        tiles = "tile size unknown" if tile is None else f"tiles of {tile}"
        downsample = facts.level_downsamples[level]
        magnified = f", {power / downsample:.4g}x" if power else ""
        yield f"level {level}", f"{size}, downsample {downsample:g}{magnified}, {tiles}"
    mpp = None if facts.mpp is None else " x ".join(f"{value:.4g}" for value in facts.mpp)
    yield "mpp", "unknown" if mpp is None else f"{mpp} micrometres per pixel"
    yield "objective power", _told_power(facts)
    colour = "#{:02x}{:02x}{:02x}".format(*facts.background)
    yield "background", colour + (f": {facts.background_reason}" if facts.background_reason else "")
    for remark in facts.remarks:
        yield "remark", remark


def _told_bounds(bounds: Region | None) -> str:
    if bounds is None:
        return "the whole slide, as far as the file tells"
    return f"{bounds.size} pixels from ({bounds.location.x}, {bounds.location.y}) of level 0 on"


def _told_power(facts: SlideFacts) -> str:
    if facts.objective_power is not None:
        return f"{facts.objective_power:g}x"
    power = objective_power(facts)
    return "unknown" if power is None else f"unknown, {power:.4g}x by the convention of 10 / mpp"
