"""The real competitor: this project's reader and its window of BigChunks, in torch without DALI.

Each worker of a torch DataLoader keeps its share of the resident BigChunks, reads them as this
project's loader processes do, and cuts the crops with numpy straight into a shared batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.accounting import Content, content
from benchmarks.measure import Batch
from benchmarks.peer import main
from benchmarks.places import Places, SlideFile, draw_places, draw_starts, slide_files
from benchmarks.workload import Workload
from pydmed_dali import BigChunkLoader, Point, Size, Slide
from pydmed_dali.plan.touched_regions import decoded_pixels, touched_parts
from pydmed_dali.ring.packing import packed_crop
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.view import choose_view, read_crops, reads_crops
from pydmed_dali.worker.chunk_reader import cut_crops

Traced = tuple[torch.Tensor, torch.Tensor, int, int]
"""Images (N, crop, crop, 3) uint8; the crops' chunks (N, 3) as in `accounting.Chunks`; the worker's
number, and the pixels that it decoded so far."""


@dataclass
class ResidentChunk:
    """One place of a worker's window."""

    pixels: Pixels
    """(chunk, chunk, 3), of which a slide smaller than a chunk fills the top left; where this
    project keeps only a chunk's crops, those, (R, crop, crop, 3)."""
    chunk: tuple[int, int, int] = (0, 0, 0)
    """The slide's number, and x and y of the chunk in level-0 pixels."""
    crops: list[Pixels] = field(default_factory=list)
    """Those that it has still to give, (crop, crop, 3) each."""


class Window(IterableDataset[Traced]):
    """Endless batches out of a worker's share of the resident chunks, each in turn."""

    def __init__(self, workload: Workload, slides: list[SlideFile], places: Places) -> None:
        self._workload, self._slides, self._places = workload, slides, places

    def __iter__(self) -> Generator[Traced]:
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        reader = Reader(self._workload, self._slides, self._places[number::workers], number)
        try:
            window = reader.open_window(max(self._workload.resident // workers, 1))
            for turn in itertools.count(step=self._workload.batch):
                yield (*self._batch(reader, window, turn), number, reader.decoded)
        finally:
            reader.close()

    def _batch(
        self, reader: Reader, window: list[ResidentChunk], turn: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(images, chunks) of a batch; `turn` is whose turn it is at its first crop."""
        images = _shared(self._workload.batch, self._workload.crop)
        chunks = np.empty((self._workload.batch, 3), np.int64)
        for place, image in enumerate(images.numpy()):
            resident = window[(turn + place) % len(window)]
            if not resident.crops:
                reader.replace(resident)
            image[:] = resident.crops.pop()
            chunks[place] = resident.chunk
        return images, torch.from_numpy(chunks)


class Reader:
    """Reads a worker's chunks: each holds the next place of its share of the list of places."""

    def __init__(
        self, workload: Workload, slides: list[SlideFile], places: Places, seed: int
    ) -> None:
        self._workload, self._slides = workload, slides
        self._rng = np.random.default_rng([workload.seed, seed])
        self._places = _for_ever(places)
        self._loader = BigChunkLoader()
        self._open: dict[Path, Slide] = {}
        chunk, crop = (Size(side, side) for side in (workload.chunk, workload.crop))
        self._packed = packed_crop(chunk, crop, workload.crops_per_chunk) is not None
        self._chunk = np.empty((chunk.height, chunk.width, 3), np.uint8)
        self.decoded = 0
        """Pixels decoded so far."""

    def open_window(self, length: int) -> list[ResidentChunk]:
        """The first chunks, of which each gives less than the next, so that they end in turn."""
        side, crop = self._workload.chunk, self._workload.crop
        each = self._workload.crops_per_chunk
        shape = (each, crop, crop, 3) if self._packed else (side, side, 3)
        window = [ResidentChunk(np.empty(shape, np.uint8)) for _ in range(length)]
        for age, resident in enumerate(window):
            self.replace(resident)
            del resident.crops[max(each * (age + 1) // length, 1) :]
        return window

    def replace(self, resident: ResidentChunk) -> None:
        """Read another chunk into this place of the window."""
        number, x, y = next(self._places)
        slide, crop = self._slides[number], self._workload.crop
        origin, extent = self._around(slide, x, y)
        starts = draw_starts(
            self._rng, slide, origin, extent, crop, self._workload.crops_per_chunk
        ) - np.array(origin)
        self.decoded += self._fill(slide.path, Point(*origin), extent, resident.pixels, starts)
        resident.chunk = (number, *origin)
        resident.crops = list(resident.pixels)
        if not self._packed:
            resident.crops = [
                resident.pixels[y : y + crop, x : x + crop] for x, y in starts.tolist()
            ]

    def close(self) -> None:
        """Close the slides."""
        for slide in self._open.values():
            slide.close()

    def _around(self, slide: SlideFile, x: int, y: int) -> tuple[tuple[int, int], Size]:
        """(origin, extent) of the chunk that holds the crop at (x, y), on the file's tiles."""
        side, crop = self._workload.chunk, self._workload.crop
        tile = slide.tile or Size(1, 1)
        left = _origin(x, slide.size.width, side, crop, tile.width)
        top = _origin(y, slide.size.height, side, crop, tile.height)
        return (left, top), Size(
            min(side, slide.size.width - left), min(side, slide.size.height - top)
        )

    def _fill(
        self, path: Path, origin: Point, extent: Size, out: Pixels, starts: NDArray[np.int64]
    ) -> int:
        """Read a chunk as this project does, and give the pixels that were decoded for it.

        `starts` says which parts of it are needed: what this project does not decode, this loader
        need not either.
        """
        if path not in self._open:
            self._open[path] = self._loader.open_slide(path)
        slide = self._open[path]
        view = choose_view(slide.facts, path, level=0, mpp=None)
        crop = Size(self._workload.crop, self._workload.crop)
        offset = Point(origin.x % view.tile.width, origin.y % view.tile.height)
        crops = starts[:, ::-1].astype(np.int32)
        if self._packed and reads_crops(slide, view):
            return read_crops(slide, view, origin, crops, out)
        parts = touched_parts(crops, crop, extent, view.tile, offset)
        if self._packed:
            chunk = self._chunk[: extent.height, : extent.width]
            self._loader.extract_bigchunk(slide, view, origin, chunk, parts)
            cut_crops(chunk, crops, out)
        else:
            chunk = out[: extent.height, : extent.width]
            self._loader.extract_bigchunk(slide, view, origin, chunk, parts)
        return decoded_pixels(parts, view.tile, offset)


class TorchWindow:
    """`Window` in a torch DataLoader."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._slides = slide_files(workload)
        self._places = draw_places(self._slides, workload.crop, workload.seed)
        self._loader: DataLoader[Traced]

    def start(self) -> None:
        """See `Loader`."""
        self._loader = DataLoader(
            Window(self._workload, self._slides, self._places),
            batch_size=None,
            num_workers=self._workload.workers,
        )

    def __iter__(self) -> Iterator[Batch]:
        for images, *trace in self._loader:
            yield images, trace

    def content(self, traces: Sequence[Any]) -> Content:
        """See `Loader`. What was decoded is counted from each worker's first batch to its last."""
        chunks = [np.asarray(rows) for rows, _, _ in traces]
        decoded = delivered = 0
        for worker in {number for _, number, _ in traces}:
            totals = [total for _, number, total in traces if number == worker]
            decoded += totals[-1] - totals[0]
            delivered += (len(totals) - 1) * self._workload.batch * self._workload.crop**2
        return content(chunks, decoded / delivered if delivered else None)

    def close(self) -> None:
        """The workers ended with the loader's iterator."""


def _shared(batch: int, crop: int) -> torch.Tensor:
    """An empty batch in shared memory, as torch's own collating makes it: sent without a copy."""
    new_shared: Any = torch.UntypedStorage._new_shared
    storage: torch.UntypedStorage = new_shared(batch * crop * crop * 3)
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(batch, crop, crop, 3)


def _origin(start: int, length: int, side: int, crop: int, tile: int) -> int:
    """Along one axis, the tile border where the chunk of a grid begins that holds the crop.

    A grid's last chunk is moved back into the slide; chunks overlap by a crop, so that each crop
    lies whole in one of them.
    """
    step = max((side - crop + 1) // tile, 1) * tile
    latest = -(-max(length - side, 0) // tile) * tile
    return min(start // step * step, latest)


def _for_ever(places: Places) -> Iterator[tuple[int, int, int]]:
    while True:
        yield from places.tolist()


if __name__ == "__main__":
    main(__doc__, TorchWindow)
