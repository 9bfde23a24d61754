"""Filling a slot: what a worker does with a job, and the caller's own process with no workers."""

from __future__ import annotations

import time
import traceback
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from pydmed_dali.errors import (
    SlideError,
    SlideFormatError,
    SlideMaskError,
    SlideNotFoundError,
    SlideReadError,
    SlideScaleError,
)
from pydmed_dali.geometry import Size
from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.loader.messages import (
    Answer,
    Failed,
    Job,
    Loaded,
    ReadPlan,
    first_words,
    last_lines,
)
from pydmed_dali.loader.tissue import Tissue, TissueFinder
from pydmed_dali.plan.placement import Placement
from pydmed_dali.ring.arena import Arena
from pydmed_dali.slide.protocol import Slide
from pydmed_dali.slide.view import View, choose_view

_KINDS = (SlideNotFoundError, SlideFormatError, SlideScaleError, SlideMaskError, SlideReadError)
_MOST_OPEN = 8  # open slides a process keeps: each holds the file's directory in memory


class Filler:
    """Loads chunks into an arena, one at a time, keeping a few slides open."""

    def __init__(self, plan: ReadPlan, loader: BigChunkLoader, arena: Arena) -> None:
        self._plan, self._loader, self._arena = plan, loader, arena
        self._open: OrderedDict[Path, Slide] = OrderedDict()
        self._finder = TissueFinder(plan.tissue, plan.placer.crop) if plan.tissue else None

    def fill(self, job: Job) -> Answer:
        """Load the job's chunk, or say why not; raises nothing but what ends a process."""
        begun = time.monotonic()
        opened = False
        try:
            slide = self._slide(job.path)
            view = choose_view(slide.facts, job.path, self._plan.level, self._plan.mpp)
            tissue = self._finder.find(job.path, slide, view) if self._finder else None
            opened = True
            placement = self._fill(job, slide, view, tissue)
        except Exception as error:
            self._forget(job.path)
            text = last_lines(traceback.format_exc())
            return Failed(job.chunk, _slide_error(error, job, opened), text, whole_slide=not opened)
        return Loaded(
            chunk=job.chunk,
            origin=placement.origin,
            size=placement.size,
            level=view.level,
            downsample=view.downsample,
            mpp=view.mpp,
            seconds=time.monotonic() - begun,
            tissue=tissue.share if tissue else None,
        )

    def close(self) -> None:
        """Close the slides that are still open."""
        while self._open:
            self._forget(next(iter(self._open)))

    def _fill(self, job: Job, slide: Slide, view: View, tissue: Tissue | None) -> Placement:
        placer, slot = self._plan.placer, self._arena.chunk(job.slot)
        eligible = tissue.eligible if tissue else None
        placement = placer.place(view.dimensions, view.tile, job.candidate, job.visit, eligible)
        extent = _at_least(placement.size, placer.crop)
        pixels = slot[: extent.height, : extent.width]
        self._loader.extract_bigchunk(slide, view, placement.origin, pixels)
        table = self._arena.table(job.slot)
        table[:] = placer.crops(placement, job.candidate, job.visit, len(table))
        return placement

    def _slide(self, path: Path) -> Slide:
        slide = self._open.pop(path, None) or self._loader.open_slide(path)
        self._open[path] = slide
        while len(self._open) > _MOST_OPEN:
            self._forget(next(iter(self._open)))
        return slide

    def _forget(self, path: Path) -> None:
        """Close a slide, if it can be: after an error it may be in any state."""
        slide = self._open.pop(path, None)
        if slide is not None:
            with suppress(Exception):
                slide.close()


def _at_least(size: Size, crop: Size) -> Size:
    """What must be filled: a slide smaller than a crop is continued by its background."""
    return Size(max(size.width, crop.width), max(size.height, crop.height))


def _slide_error(error: Exception, job: Job, opened: bool) -> SlideError:
    """The error as it crosses to the parent: ours as it is, any other in our words."""
    for kind in _KINDS:
        if isinstance(error, kind):
            return kind(first_words(str(error)))
    if not opened:
        return SlideFormatError(first_words(f"{job.path}: opening it raised {error!r}"))
    return SlideReadError(first_words(f"{job.path}: reading a chunk of it raised {error!r}"))
