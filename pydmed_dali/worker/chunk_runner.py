"""Loading chunks: what a worker, or with no workers the caller's process, does with a task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydmed_dali.plan.depth import Slab
from pydmed_dali.plan.eligible import Eligible, scanned_places
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.plan.placement import Placement
from pydmed_dali.plan.tile_grid import GridPlacer
from pydmed_dali.ring.arena import Arena
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import View
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.chunk_reader import ChunkReader
from pydmed_dali.worker.failure import failure
from pydmed_dali.worker.messages import Failed, LoadChunk, Loaded
from pydmed_dali.worker.open_slides import OpenSlides
from pydmed_dali.worker.plugin_calls import place_chunk, place_crops
from pydmed_dali.worker.read_plan import ReadPlan
from pydmed_dali.worker.stain_finder import StainFinder
from pydmed_dali.worker.tissue_places import Tissue, TissueFinder
from pydmed_dali.worker.visit import Visit

if TYPE_CHECKING:
    from pydmed_dali.worker.annotation_finder import AnnotationFinder, ViewAnnotations


class ChunkRunner:
    """Loads chunks into an arena, one at a time, keeping a few slides open."""

    def __init__(self, plan: ReadPlan, loader: BigChunkLoader, arena: Arena) -> None:
        self._plan, self._arena = plan, arena
        self._slides = OpenSlides(loader)
        loader.cache = cache = Cache(plan.cache)
        self._reader = ChunkReader(loader, arena, plan.placer, plan.depth)
        crop = plan.placer.crop
        self._finder = TissueFinder(plan.tissue, crop, cache, plan.scale) if plan.tissue else None
        self._annotations: AnnotationFinder | None = None
        if plan.annotated:
            # Here, because it imports what most runs do not need, and workers are to start soon.
            from pydmed_dali.worker.annotation_finder import AnnotationFinder

            self._annotations = AnnotationFinder(plan.annotated, crop, cache)
        self._stains = StainFinder(plan.stain, cache, plan.scale) if plan.stain else None
        # On a grid, tiles lie where the grid has them, whatever an own loader does in training.
        self._places = BigChunkLoader() if isinstance(plan.placer, GridPlacer) else loader

    def run(self, job: LoadChunk) -> Loaded | Failed:
        """Load the job's chunk, or say why not; raises nothing but what ends a process."""
        begun = time.monotonic()
        opened = False
        try:
            slide = self._slides.get(job.path)
            view = self._plan.scale.view(slide.facts, job.path)
            tissue = self._finder.find(job.path, slide, view) if self._finder else None
            stain = self._stains.find(job.path, slide) if self._stains else None
            annotated = (
                self._annotations.find(job.path, slide.facts, view) if self._annotations else None
            )
            opened = True
            placement, slab, decoded, state = self._fill(job, slide, view, tissue, annotated)
            # Afterwards, so that a file which changes while it is read is noticed too.
            self._slides.check_file(job.path)
        except Exception as error:
            return failure(job, error, opened, self._slides)
        return Loaded(
            chunk=job.chunk,
            origin=placement.origin,
            size=placement.size,
            first_slice=slab.first,
            level=view.level,
            downsample=view.downsample,
            mpp=view.mpp,
            decoded_pixels=decoded,
            seconds=time.monotonic() - begun,
            file=self._slides.file(job.path),
            tissue=tissue.share if tissue else None,
            stain=stain,
            state=state,
            notices=tuple(one.notice for one in (tissue, annotated) if one and one.notice),
            remarks=self._remarks(slide, view),
        )

    def _remarks(self, slide: Slide, view: View) -> tuple[str, ...]:
        assumed = self._plan.scale.remark(slide.facts, view)
        return slide.facts.remarks if assumed is None else (*slide.facts.remarks, assumed)

    def close(self) -> None:
        """Close the slides that are still open."""
        self._slides.close()

    def _fill(
        self,
        job: LoadChunk,
        slide: Slide,
        view: View,
        tissue: Tissue | None,
        annotated: ViewAnnotations | None,
    ) -> tuple[Placement, Slab, int, str | None]:
        """Write the chunk's crops and pixels; where it lies, pixels decoded, a policy's state."""
        placer = self._plan.placer
        allowed = (
            tissue.eligible
            if tissue
            else scanned_places(view.scanned, view.dimensions, placer.crop)
        )
        eligible: Eligible | Runs | None = allowed
        if annotated:
            eligible = annotated.places(job.candidate.class_number, allowed)
        visit = Visit.of(job, placer, slide, view, eligible)
        placement, state = place_chunk(self._places, visit, job)
        table = self._arena.table(job.slot)
        table[:] = place_crops(self._places, visit, placement, len(table))
        if annotated:
            self._reader.paint(job.slot, annotated, placement.origin, table)
        if self._plan.depth is None:
            decoded = self._reader.read_image(job.slot, slide, view, placement, table)
            return placement, Slab(0, 1), decoded, state
        slab, decoded = self._reader.read_slices(job, slide, view, placement, table)
        return placement, slab, decoded, state
