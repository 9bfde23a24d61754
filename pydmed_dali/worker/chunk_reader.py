"""Reading a chunk: of each image in it, the parts that its crops touch, or those crops alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import SlideFormatError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.depth import Depth, Slab
from pydmed_dali.plan.placement import Placement, Placer, Positions
from pydmed_dali.plan.touched_regions import crops_box, decoded_pixels, touched_parts
from pydmed_dali.ring.arena import Arena
from pydmed_dali.slide.slide import Slide, Volume
from pydmed_dali.slide.view import View, read_crops, reads_crops
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import LoadChunk
from pydmed_dali.worker.plugin_calls import has_own_reader

if TYPE_CHECKING:
    from pydmed_dali.worker.annotation_finder import ViewAnnotations

_BLOCK = Size(256, 256)  # what is decoded or left out where the file's own tiles are not known
_POISON = "PYDMED_DALI_POISON"
"""Environment variable that has memory filled with a colour before a chunk is read into it, so that
a crop of pixels which were not read shows it, and not a former chunk."""
_POISON_COLOUR = (1, 254, 1)
_POISON_CLASS = (254,)


@dataclass(slots=True)
class ChunkReader:
    """Fills slots of an arena, with what a loader reads."""

    loader: BigChunkLoader
    arena: Arena
    placer: Placer
    depth: Depth | None
    _chunk: NDArray[Any] | None = None  # where crops are cut from, once it was needed

    def read_image(
        self, slot: int, slide: Slide, view: View, placement: Placement, crops: Positions
    ) -> int:
        """Fill a slot with the chunk of a slide, or with its crops; pixels decoded."""
        images = None
        if self.arena.layout.packed is not None:
            self.arena.map_pages(slot)
            images = _poisoned(self.arena.crops(slot))
            if not has_own_reader(self.loader) and reads_crops(slide, view):
                return read_crops(slide, view, placement.origin, crops, images)
        extent = _at_least(placement.size, self.placer.crop)
        parts, decoded = self._touched(slide, view, placement.origin, extent, crops)
        if images is None:
            self._map_pages(slot, parts)
        chunk = _poisoned(self.arena.pixels(slot) if images is None else self._own_chunk())
        out = chunk[: extent.height, : extent.width]
        self.loader.extract_bigchunk(slide, view, placement.origin, out, parts)
        if images is not None:
            cut_crops(chunk, crops, images)
        return decoded

    def paint(self, slot: int, annotated: ViewAnnotations, origin: Point, crops: Positions) -> None:
        """Fill a slot's mask with the classes of the pixels that crops show."""
        box = crops_box(crops, self.placer.crop)
        corner = Point(origin.x + box.location.x, origin.y + box.location.y)
        classes = annotated.mask(corner, box.size)
        if self.arena.layout.packed is None:
            _poisoned(self.arena.mask(slot), _POISON_CLASS)[box.slices] = classes
        else:
            inside = crops - (box.location.y, box.location.x)
            masks = _poisoned(self.arena.crop_masks(slot), _POISON_CLASS)
            cut_crops(classes, inside, masks)

    def read_slices(
        self,
        job: LoadChunk,
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
        height, slot = self.placer.chunk.height, _poisoned(self.arena.pixels(job.slot))
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
        share = sum(part.size.area for part in parts) / self.arena.layout.slot.area
        self.arena.map_pages(slot, share)

    def _own_chunk(self) -> NDArray[Any]:
        """Memory for a chunk, which the next one is read into again."""
        if self._chunk is None:
            layout = self.arena.layout
            shape = (layout.chunk.height, layout.chunk.width, layout.pixel.channels)
            self._chunk = np.empty(shape, layout.pixel.dtype)
        return self._chunk

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


def cut_crops(chunk: NDArray[Any], crops: Positions, images: NDArray[Any]) -> None:
    """Copy the crops at `crops`, (R, 2) (y, x), of a chunk to `images`, (R, height, width, ...)."""
    height, width = images.shape[1:3]
    for image, (y, x) in zip(images, crops.tolist(), strict=True):
        image[:] = chunk[y : y + height, x : x + width]


def _poisoned(memory: NDArray[Any], colour: tuple[int, ...] = _POISON_COLOUR) -> NDArray[Any]:
    """The memory, filled with the colour along its last axis if the environment asks for it."""
    if _POISON in os.environ:
        memory[:] = np.resize(colour, memory.shape[-1])
    return memory
