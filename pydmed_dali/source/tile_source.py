"""The source of every tile: a finite stream of batches that shows each tile of each slide once."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES
from pydmed_dali.dali.device import choose_device, current_gpu
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import NoTilesError, OptionError
from pydmed_dali.geometry import Region, Size
from pydmed_dali.plan.tile_grid import SlideGrid
from pydmed_dali.plan.tile_sampler import TileSampler
from pydmed_dali.pool.annotation_files import plan_annotations
from pydmed_dali.pool.companion_files import CompanionFiles
from pydmed_dali.pool.mask_files import Masks, mask_rules, plan_tissue
from pydmed_dali.pool.notices import Notices
from pydmed_dali.pool.survey import Survey
from pydmed_dali.slide.cache import cache_folder
from pydmed_dali.slide.file_identity import FileIdentity
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.slide.tissue_values import GivenValues
from pydmed_dali.source.base import BaseSource, usual_workers
from pydmed_dali.source.engine import Engine
from pydmed_dali.source.options import Options
from pydmed_dali.source.pipeline_binding import PipelineBinding
from pydmed_dali.source.ranks import choose_rank, warn_of_copies
from pydmed_dali.source.schedule import tile_schedule
from pydmed_dali.worker.annotation_plan import AnnotationPlan
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import Failed
from pydmed_dali.worker.read_plan import SurveyPlan
from pydmed_dali.worker.survey_runner import wanted_tiles
from pydmed_dali.worker.tile_filter import TilesPlan
from pydmed_dali.worker.tissue_places import warn_of_little_tissue

logger = logging.getLogger("pydmed_dali.source")

_FEWEST_CHUNKS = 8  # that a batch may touch: it ends early only where slides have very few tiles


class TileSource(BaseSource):
    """Deals every tile of every slide of a dataset once, slide after slide, to one DALI pipeline.

    Tiles lie on a grid from the slide's upper left corner on: (column * stride, row * stride), in
    the pixels that are read, as few as cover the whole slide. Those of the last row and column may
    reach beyond the edge, where they show the slide's background; a slide smaller than a tile has
    one. Slides come in the dataset's order, and of each all tiles before the next slide's; within a
    slide they come BigChunk after BigChunk, `info` tells where each lies. The last batch, and now
    and then one that would touch many tiny slides, is filled with copies that are not
    `InfoColumn.VALID`; `SmallChunkIterator` cuts them off. A run ends with StopIteration, and can
    be repeated.

    Args:
        dataset: the patients and their slides.
        tile_size: side of a tile in pixels, or a `Size`.
        stride: from one tile to the next, at most a tile; by default `tile_size`: no overlap.
        batch_size: tiles in a batch (N).
        level: the level of the slides to read, 0 unless `mpp` or `magnification` is given.
        mpp, magnification: what to read at instead of `level`; as for `BigChunkSource`.
        default_mpp: micrometres per level-0 pixel of slides that do not tell theirs.
        mpp_override: micrometres per level-0 pixel of every slide, whatever its file tells.
        min_tissue: part of a tile that must be tissue, above 0 and at most 1; None for all tiles.
        masks, tissue_values: masks of your own, for `min_tissue`; as for `BigChunkSource`.
        annotations, classes: only tiles whose centre lies in one of these classes, by default any
            that is drawn; files as for `BigChunkSource`.
        exclusions, max_annotation_bytes, frame: as for `BigChunkSource`.
        done: tiles that need not come again, by their slide's path: (n, 2),
            `InfoColumn.X` and `InfoColumn.Y` as an earlier run showed them. If `done`
            covers every tile of a slide, all of its tiles are delivered again.
        chunk_size: side of a BigChunk in pixels, or a `Size`: what is read from disk at once.
        rank, world_size: this process among several that have slides of their own, for the report:
            none are shared out here, every process gets all tiles of its dataset. None for both has
            them found out, as for `BigChunkSource`, and warns where there are several processes.
        num_workers: loader processes; as for `BigChunkSource`. Decides nothing of what comes.
        cache_dir, read_timeout: as for `BigChunkSource`.
        device: `cpu`, `gpu`, or `auto` for the GPU where there is one.
        loader: as for `BigChunkSource`; its `place_chunk` and `place_crops` are not asked.

    Slides that cannot be opened, or not at this level or mpp, or have no tile that is wanted, are
    named in the log and in `report().slides_skipped`. A region that cannot be read later ends the
    run, with a `SlideError` that names the slide: nothing stands in for it. Raises `OptionError`
    for options that cannot work, `NoTilesError` where no slide is left.

    A context manager; `close` ends the workers.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        tile_size: int | Size = 224,
        stride: int | Size | None = None,
        batch_size: int = 256,
        level: int | None = None,
        mpp: float | None = None,
        magnification: float | None = None,
        default_mpp: float | None = None,
        mpp_override: float | None = None,
        min_tissue: float | None = None,
        masks: Masks | None = None,
        tissue_values: GivenValues | None = None,
        annotations: CompanionFiles | AnnotationPlan | None = None,  # a plan: of `predict`
        classes: Sequence[str] | None = None,
        exclusions: Collection[str] = EXCLUSIONS,
        max_annotation_bytes: int = MOST_BYTES,
        frame: str = "auto",
        done: Mapping[Path, NDArray[np.int64]] | None = None,
        chunk_size: int | Size = 4096,
        rank: int | None = None,
        world_size: int | None = None,
        num_workers: int | None = None,
        read_timeout: float = 300.0,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        loader: BigChunkLoader | None = None,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise OptionError(
                f"dataset must be a Dataset, not {dataset!r}; Dataset.from_folder makes one"
            )
        self.dataset = dataset
        self._ranks = choose_rank(rank, world_size)
        warn_of_copies(self._ranks)
        self.tile = Size.of(tile_size, "tile_size")
        self.stride = self.tile if stride is None else Size.of(stride, "stride")
        workers = usual_workers() if num_workers is None else num_workers
        chunk = Size.of(chunk_size, "chunk_size")
        _check_sizes(self.tile, self.stride, chunk)
        if isinstance(classes, Mapping):
            raise OptionError("classes of a TileSource are names without shares: every tile counts")
        loader = loader or BigChunkLoader()
        self.options = replace(
            _options(
                chunk, self.tile, batch_size, level, mpp, magnification, workers, read_timeout
            ),
            default_mpp=default_mpp,
            mpp_override=mpp_override,
            min_tissue=min_tissue,
            tissue_rules=mask_rules(min_tissue, masks, tissue_values, check_frame(frame)),
            computes_masks=min_tissue is not None and masks is None,
            pixel=loader.pixel_format,
        )
        self.device = choose_device(device)
        self._gpu = current_gpu() if self.device == "gpu" else None
        self._binding = PipelineBinding(batch_size, self.options.prefetch_depth, self._gpu)
        folder = cache_folder(cache_dir)
        plan = TilesPlan(
            self.tile,
            self.stride,
            plan_tissue(dataset, min_tissue, masks, tissue_values, frame),
            plan_annotations(
                dataset, annotations, classes, folder, exclusions, max_annotation_bytes, frame
            ),
        )
        self._downsamples: dict[int, tuple[float, float]] = {}
        self._files: dict[int, FileIdentity | None] = {}
        self._bounds: dict[int, Region | None] = {}
        self._done: dict[int, NDArray[np.bool_]] = {}
        survey = Survey(
            [record.path for record in dataset.slides],
            SurveyPlan(self.options.scale, folder, tiles=plan),
            loader,
            workers,
            read_timeout,
        )
        with survey:
            self._grids, skipped = self._find_grids(survey, plan)
            self._leave_out(done or {})
            patients = [p for p, patient in enumerate(dataset.patients) for _ in patient.records]
            sampler = TileSampler(patients, self._grids)
            most = int(sampler.tiles.max())
            self.options = replace(
                self.options,
                crops_per_chunk=most,
                resident=max(_FEWEST_CHUNKS, -(-batch_size // most) + 1),
            )
            work = tile_schedule(self.options, sampler, self._grids)
            self._window = work.window
            self._engine = Engine(
                self.options,
                work,
                dataset,
                loader,
                None,
                folder,
                self.device,
                self._gpu,
                workers=survey.workers,
            )
            survey.keep_workers()
        self._engine.scheduler.bad_slides.update(skipped)
        self._engine.scheduler.expect_files(self._files)

    @property
    def tiles_per_slide(self) -> dict[int, int]:
        """How many tiles of each slide come, by its position in `Dataset.slides`."""
        return {slide: grid.count for slide, grid in self._grids.items()}

    @property
    def level0_strides(self) -> dict[int, tuple[float, float]]:
        """(x, y) from one tile to the next in level-0 pixels, by position in `Dataset.slides`."""
        width, height = self.stride.width, self.stride.height
        return {slide: (x * width, y * height) for slide, (x, y) in self._downsamples.items()}

    @property
    def extents(self) -> dict[int, Size]:
        """How large each slide is in view pixels, by position in `Dataset.slides`."""
        return {slide: grid.extent for slide, grid in self._grids.items()}

    @property
    def bounds(self) -> dict[int, Region | None]:
        """What of each slide was scanned, in level-0 pixels, by position in `Dataset.slides`; None
        for the whole slide, as far as its file tells.
        """
        return dict(self._bounds)

    @property
    def grid_shapes(self) -> dict[int, tuple[int, int]]:
        """Rows and columns of each slide's grid, wanted or not, by position in `Dataset.slides`."""
        return {slide: grid.shape for slide, grid in self._grids.items()}

    def is_done(self, slide: int, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,): whether each tile with these corners is one that does not come, as it is `done`."""
        found = np.zeros(len(corners), np.bool_)
        done = self._done.get(slide)
        if done is not None:
            places = self.grid_places(slide, corners)
            inside = ((places >= 0) & (places < done.shape)).all(axis=1)
            found[inside] = done[tuple(places[inside].T)]
        return found

    def file_of(self, slide: int) -> FileIdentity | None:
        """The file that a slide's tiles are of, by position in `Dataset.slides`; None where there
        is no file to be seen.
        """
        return self._files[slide]

    def grid_places(self, slide: int, corners: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2), row and column in the slide's grid, of tiles with these corners.

        `corners` is (n, 2), (x, y) in level-0 pixels: `InfoColumn.X`, `InfoColumn.Y`.
        """
        found: NDArray[np.int64] = np.rint(corners / self.level0_strides[slide]).astype(np.int64)
        return found[:, ::-1]

    @property
    def chunk_rows(self) -> dict[int, NDArray[np.int64]]:
        """Borders between the rows of BigChunks, in rows of the grid, by position in
        `Dataset.slides`: from 0 to the number of rows. Tiles below a border come after those above.
        """
        return {slide: grid.rows for slide, grid in self._grids.items()}

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a run."""
        return self._window.batches

    @property
    def is_finite(self) -> bool:
        """True: a run ends when every tile has come."""
        return True

    def _crops_in_batch(self, batch: int) -> int:
        """Tiles of a batch without the copies that fill it."""
        return self._window.tiles_in(batch)

    def _leave_out(self, done: Mapping[Path, NDArray[np.int64]]) -> None:
        """Take what is done out of the grids."""
        for slide, grid in self._grids.items():
            corners = done.get(self.dataset.slides[slide].path)
            if corners is None:
                continue
            places = self.grid_places(slide, corners)
            inside = ((places >= 0) & (places < grid.shape)).all(axis=1)
            found = np.zeros(grid.shape, np.bool_)
            found[tuple(places[inside].T)] = True
            found &= grid.wanted
            left = grid.wanted & ~found
            if left.any():
                self._done[slide] = found
                self._grids[slide] = replace(grid, bits=np.packbits(left))

    def _find_grids(
        self, survey: Survey, plan: TilesPlan
    ) -> tuple[dict[int, SlideGrid], dict[int, str]]:
        """The grid of each slide that can be read and has a tile, and why the others have none."""
        grids: dict[int, SlideGrid] = {}
        skipped: dict[int, str] = {}
        notices = Notices()
        for found in survey:
            slide = found.number
            if isinstance(found, Failed):
                logger.warning("%s; the slide is skipped", found.error)
                skipped[slide] = str(found.error)
                continue
            notices.say(self.dataset.slides[slide].path, found.notices)
            if found.tissue is not None:
                warn_of_little_tissue(self.dataset.slides[slide].path, found.tissue)
            view = found.view
            self._bounds[slide] = found.bounds
            self._downsamples[slide], self._files[slide] = view.downsample, found.file
            grids[slide] = SlideGrid.of(
                view.dimensions,
                self.tile,
                self.stride,
                self.options.chunk,
                view.tile,
                wanted_tiles(found, plan),
            )
        if not grids:
            slides = self.dataset.slides
            raise NoTilesError.of({slides[n].path: skipped[n] for n in sorted(skipped)})
        return dict(sorted(grids.items())), dict(sorted(skipped.items()))


def _check_sizes(tile: Size, stride: Size, chunk: Size) -> None:
    if stride.width > tile.width or stride.height > tile.height:
        raise OptionError(
            f"stride={stride} is more than tile_size={tile}, so that pixels between tiles would be "
            "left out; it must be at most a tile"
        )
    if tile.width > chunk.width or tile.height > chunk.height:
        raise OptionError(
            f"tile_size={tile} does not fit in chunk_size={chunk}; raise chunk_size (4096 is "
            "usual) or lower tile_size"
        )


def _options(
    chunk: Size,
    tile: Size,
    batch_size: int,
    level: int | None,
    mpp: float | None,
    magnification: float | None,
    workers: int,
    read_timeout: float,
) -> Options:
    """The options of the engine, checked; those of the ring follow from the slides."""
    return Options(
        chunk=chunk,
        crop=tile,
        batch_size=batch_size,
        level=0 if level is None and mpp is None and magnification is None else level,
        mpp=mpp,
        magnification=magnification,
        default_mpp=None,
        min_tissue=None,
        tissue_rules=None,
        computes_masks=False,
        resident=_FEWEST_CHUNKS,
        crops_per_chunk=1,
        num_workers=workers,
        seed=0,
        balance="slide",
        weights=None,
        passes=1,
        rank=0,
        world_size=1,
        prefetch_depth=2,
        residency="auto",
        gpu_memory_share=0.5,
        on_error="raise",
        read_timeout=read_timeout,
        whole_chunks=True,  # cutting tiles out of them as they are decoded is slower: decision 0013
    )
