"""Reading the pixels of a chunk: of each image in it, the parts that its crops touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pydmed_dali.errors import SlideFormatError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.loader.messages import Job
from pydmed_dali.plan.depth import Depth, Slab
from pydmed_dali.plan.parts import decoded_pixels, touched_parts
from pydmed_dali.plan.placement import Placement, Placer, Positions
from pydmed_dali.ring.arena import Arena
from pydmed_dali.slide.protocol import Slide, Volume
from pydmed_dali.slide.view import View

_BLOCK = Size(256, 256)  # what is decoded or left out where the file's own tiles are not known


@dataclass(frozen=True, slots=True)
class ChunkReader:
    """Fills slots of an arena, with what a loader reads."""

    loader: BigChunkLoader
    arena: Arena
    placer: Placer
    depth: Depth | None

    def read_image(
        self, slot: int, slide: Slide, view: View, placement: Placement, crops: Positions
    ) -> int:
        """Fill a slot with the chunk of a slide; pixels decoded."""
        extent = _at_least(placement.size, self.placer.crop)
        parts, decoded = self._touched(slide, view, placement.origin, extent, crops)
        self._map_pages(slot, parts)
        out = self.arena.chunk(slot)[: extent.height, : extent.width]
        self.loader.extract_bigchunk(slide, view, placement.origin, out, parts)
        return decoded

    def read_slices(
        self,
        job: Job,
        slide: Slide,
        view: View,
        placement: Placement,
        crops: Positions,
    ) -> tuple[Slab, int]:
        """Fill the job's slot with the chunk of a volume, slice below slice: (slab, pixels read).

        `crops` (R, 2) gets each crop's place in that tall image. Raises `SlideFormatError` where
        the slide is no volume.
        """
        assert self.depth is not None
        if not isinstance(slide, Volume):
            raise SlideFormatError(
                f"{job.path}: it has no slices, and crop_depth={self.depth.crop} was asked for; "
                "crop_depth is for loaders that open volumes, as NiftiLoader"
            )
        if slide.depth < 1:
            raise SlideFormatError(f"{job.path}: it says it has {slide.depth} slices")
        key = (self.placer.seed, job.candidate, job.visit)
        slab = self.depth.place(slide.depth, *key)
        starts = self.depth.crops(slab, *key, len(crops))
        extent = _at_least(placement.size, self.placer.crop)
        touched = {}
        for number in range(self.depth.chunk):
            inside = (starts <= number) & (number < starts + self.depth.crop)
            if inside.any():
                touched[number] = self._touched(
                    slide, view, placement.origin, extent, crops[inside]
                )
        self._map_pages(job.slot, [part for parts, _ in touched.values() for part in parts])
        height, slot = self.placer.chunk.height, self.arena.chunk(job.slot)
        for number, (parts, _) in touched.items():
            out = slot[number * height :][: extent.height, : extent.width]
            if slab.first + number < slide.depth:
                image = slide.slice(slab.first + number)
                self.loader.extract_bigchunk(image, view, placement.origin, out, parts)
            else:
                out[:] = 0
        crops[:, 0] += starts * height
        return slab, sum(decoded for _, decoded in touched.values())

    def _map_pages(self, slot: int, parts: list[Region]) -> None:
        share = sum(part.size.area for part in parts) / self.arena.layout.chunk.area
        self.arena.map_pages(slot, share)

    def _touched(
        self, slide: Slide, view: View, origin: Point, extent: Size, crops: Positions
    ) -> tuple[list[Region], int]:
        """(parts of an image that its crops touch, pixels decoded for them)."""
        if view.level in slide.facts.shifted_levels:
            parts, decoded = [Region(Point(0, 0), extent)], extent.area
        else:
            cell = view.tile if view.tile.area > 1 else _BLOCK
            offset = Point(origin.x % cell.width, origin.y % cell.height)
            parts = touched_parts(np.asarray(crops), self.placer.crop, extent, cell, offset)
            decoded = decoded_pixels(parts, cell, offset)
        return parts, round(decoded * view.scale[0] * view.scale[1])


def _at_least(size: Size, crop: Size) -> Size:
    """What must be filled: a slide smaller than a crop is continued by its background."""
    return Size(max(size.width, crop.width), max(size.height, crop.height))
