"""Runs a model that scores every pixel over every slide; a picture of classes for each."""

from __future__ import annotations

import os
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.infer.class_map import UNCOVERED, description_of, write_classes
from pydmed_dali.infer.collector import Features, Rows
from pydmed_dali.infer.feature_log import identity_of
from pydmed_dali.infer.model_call import bad_output_error, call_model, to_finite_array
from pydmed_dali.infer.model_input import RAW, FedModel, Model, ModelInput
from pydmed_dali.infer.result_folder import CONTENT, ResultFolder, origin
from pydmed_dali.infer.segmentation_checkpoint import SavedSegmentation, SegmentationCheckpoint
from pydmed_dali.infer.slide_runner import (
    Corners,
    InferenceResult,
    Note,
    Progress,
    RunContext,
    StaleError,
    run_slides,
)
from pydmed_dali.infer.stitch import WINDOWS, Stitcher, Sums, blending_weights
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.source.iterator import SmallChunkIterator
from pydmed_dali.source.provenance import InfoColumn, to_numpy
from pydmed_dali.source.tile_source import TileSource

_VERSION = 1


def segment(
    dataset: Dataset,
    model: Model,
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    normalize: str = RAW,
    tile_size: int | Size = 512,
    stride: int | Size | None = None,
    window: str = "hann",
    on_error: str = "skip",
    rank: int | None = None,
    world_size: int | None = None,
    on_slide: Note | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> InferenceResult:
    """Run `model` over every tile of every slide, and write `folder/NAME.tif` for slide `NAME.*`.

    A file is a tiled, pyramidal TIFF of the class with the highest score at each pixel, 0 to K - 1,
    255 where no tile is, with a palette, so that viewers show it in colours. It covers the slide
    from its upper left corner on, and has as many pixels as the view that was read, or an n-th a
    side where the model gives an n-th. Where tiles overlap, scores are blended by `window`.

    Args:
        model: called with tiles as `normalize` says; returns (N, K, height / n, width / n), K at
            least 2 and at most 254, n a whole number: scores, of which the highest is taken.
        stride: a multiple of n; by default a tile, without overlap. Half a tile is usual.
        window: `hann` or `mean`: see `stitch.blending_weights`.
        dataset, folder, model_name, normalize, tile_size, on_error, rank, world_size, on_slide,
            progress, options: as for `predict`, which also tells of errors.

    Of a slide under way, scores lie in files in `folder`: 4 * (K + 1) bytes for each pixel
    of one row of BigChunks across the picture, and its classes, a byte a pixel. Called again, it
    goes on where the last row of BigChunks began, in `folder/.NAME.tif.rows`; rows above stay as
    they are, where annotations or masks have changed too.
    """
    if window not in WINDOWS:
        raise OptionError(f"window must be one of {', '.join(WINDOWS)}, not {window!r}")
    fed = FedModel.of(model, normalize)
    return run_slides(
        dataset,
        folder,
        ".tif",
        {"version": _VERSION, "model_name": model_name, "window": window, **fed.given.record},
        lambda results: _Segmentation(results, fed, window),
        on_error=on_error,
        rank=rank,
        world_size=world_size,
        on_slide=on_slide,
        progress=progress,
        tile_size=tile_size,
        stride=stride,
        **options,
    )


class _Segmentation:
    """A `Work`: a picture of classes for each slide. Slides come one after the other."""

    def __init__(self, results: ResultFolder, model: FedModel, window: str) -> None:
        self._results, self._model, self._window = results, model, window
        self._begun: dict[int, SavedSegmentation] = {}
        self._forgotten: set[Path] = set()

    def begun(self, dataset: Dataset) -> dict[Path, Corners]:
        """See `Work.begun`."""
        self._begun, corners = {}, {}
        for slide, record in enumerate(dataset.slides):
            saved = self._half_done(record.path).load(record.path)
            if saved is not None and record.path not in self._forgotten:
                self._begun[slide] = saved
                corners[record.path] = saved.corners
        return corners

    def write_all(self, these: RunContext) -> None:
        """See `Work.write_all`."""
        source = these.source
        left, under_way, present = dict(source.tiles_per_slide), None, -1
        shape = next((saved.shape for saved in self._begun.values()), None)
        try:
            for batch in SmallChunkIterator(basic(source)):
                rows = to_numpy(batch["info"])
                scores = _scores(self._model, batch["image"], rows, source, shape)
                shape = scores.shape[1:]
                these.seen(len(rows))
                for slide in dict.fromkeys(rows[:, InfoColumn.SLIDE].tolist()):
                    if slide != present or under_way is None:
                        under_way, present = self._begin(source, slide, shape), slide
                    of_slide = rows[:, InfoColumn.SLIDE] == slide
                    under_way.add(scores[of_slide], rows[of_slide])
                    left[slide] -= int(of_slide.sum())
                    if not left[slide]:
                        path = source.dataset.slides[slide].path
                        write = partial(under_way.write, self._model.given)
                        written = self._results.write(path, write)
                        under_way.close()
                        under_way = None
                        self.forget(path)
                        these.note(path, written)
        finally:
            if under_way is not None:
                under_way.close()

    def forget(self, slide: Path) -> None:
        """See `Work.forget`."""
        self._forgotten.add(slide)
        self._half_done(slide).remove()

    def content_in(self, file: Path) -> str | None:
        """See `Work.content_in`."""
        found = description_of(file).get(CONTENT)
        return found if isinstance(found, str) else None

    def _half_done(self, slide: Path) -> SegmentationCheckpoint:
        return SegmentationCheckpoint(self._results.under_way(slide, "rows"))

    def _begin(self, source: TileSource, slide: int, shape: tuple[int, ...]) -> _Slide:
        """Begin a slide, or go on with it, where the source leaves out what is done."""
        half_done = self._half_done(source.dataset.slides[slide].path)
        saved = self._begun.get(slide)
        if saved is not None and not source.is_done(slide, saved.corners).any():
            saved = None
        sums = None if saved is None else half_done.sums()
        file = source.file_of(slide)
        if saved is None:
            half_done.remove()
        elif sums is None or file is None or saved.identity != identity_of(file):
            raise StaleError(source.dataset.slides[slide].path)
        try:
            under_way = _Slide(source, slide, shape, self._window, self._results.folder, half_done)
            if saved is not None and sums is not None:
                if saved.picture != under_way.picture:
                    raise StaleError(source.dataset.slides[slide].path)
                under_way.reconfigure(saved, sums)
            return under_way
        except BaseException:
            half_done.remove_unless_saved()
            raise


class _Slide:
    """The scores of one slide, as far as they have come."""

    def __init__(
        self,
        source: TileSource,
        slide: int,
        shape: tuple[int, ...],
        window: str,
        folder: Path,
        half_done: SegmentationCheckpoint,
    ) -> None:
        classes, height, width = self._shape = shape
        self._half_done, self._source, self._slide = half_done, source, slide
        self._step = source.options.crop.height // height
        self._stride = source.level0_strides[slide]
        self._pixels = Size(source.stride.width // self._step, source.stride.height // self._step)
        self._columns = source.grid_shapes[slide][1]
        self._borders, self._begun = source.chunk_rows[slide], 0
        extent = source.extents[slide]
        self.picture = Size(-(-extent.width // self._step), -(-extent.height // self._step))
        self._classes = half_done.classes(self.picture)
        self._final = self._checksum = 0
        self._stitcher = Stitcher(
            folder,
            self._classes,
            across=(self._columns - 1) * self._pixels.width + width,
            rows=(int(np.diff(self._borders).max()) - 1) * self._pixels.height + height,
            weights=blending_weights(window, height, width),
            classes=classes,
        )
        self._mpp: tuple[float, float] | None = None

    def reconfigure(self, saved: SavedSegmentation, sums: Sums) -> None:
        """Where an earlier call ended."""
        self._begun = saved.row
        self._final, self._checksum = saved.final, saved.checksum
        self._stitcher.reconfigure(saved.final, sums)

    def add(self, scores: Features, rows: Rows) -> None:
        """Take some tiles, (n, K, height, width)."""
        places = self._source.grid_places(
            self._slide, rows[:, [InfoColumn.X, InfoColumn.Y]]
        ).tolist()
        for tile, (line, column) in zip(scores, places, strict=True):
            self._finish_above(line)
            self._stitcher.add(column * self._pixels.width, line * self._pixels.height, tile)
        if rows[0, InfoColumn.MPP_PM]:
            side = float(rows[0, InfoColumn.MPP_PM]) / 1e6 * self._step
            self._mpp = (side, side)

    def write(self, given: ModelInput, path: Path) -> None:
        """Write the picture, once all tiles have come."""
        pixel = (self._stride[0] / self._pixels.width, self._stride[1] / self._pixels.height)
        told: dict[str, Any] = {
            **origin(self._source.dataset.slides[self._slide], self._source.file_of(self._slide)),
            **given.record,
        }
        bounds = self._source.bounds[self._slide]
        if bounds is not None:
            corner, size = bounds.location, bounds.size
            told["bounds"] = [corner.x, corner.y, size.width, size.height]
        write_classes(path, self._stitcher.classes(), self._mpp, pixel, told)

    def close(self) -> None:
        """Let go of the files; those that a call can go on with stay."""
        self._stitcher.close()
        del self._classes
        self._half_done.remove_unless_saved()

    def _finish_above(self, line: int) -> None:
        """A tile of row `line` came: rows of chunks above its own are over."""
        begin = int(self._borders[np.searchsorted(self._borders, line, "right") - 1])
        if begin > self._begun:
            self._begun, until = begin, begin * self._pixels.height
            self._stitcher.finish(until)
            self._checksum = zlib.crc32(self._classes[self._final : until].data, self._checksum)
            self._final = until
            file = self._source.file_of(self._slide)
            if file is not None:  # without, nothing would tell the slide from another
                self._half_done.save(
                    SavedSegmentation(
                        begin,
                        self._columns,
                        self._stride,
                        self._shape,
                        self.picture,
                        self._final,
                        self._checksum,
                        identity_of(file),
                    ),
                    self._stitcher.sums(self._shape[1] - self._pixels.height),
                )


def _scores(
    model: FedModel, tiles: Any, rows: Rows, source: TileSource, shape: tuple[int, ...] | None
) -> Features:
    """What the model says of a batch, (N, K, height, width); `shape` is what it said before."""
    output = call_model(model, tiles, rows, source)
    tile = source.options.crop
    known = tuple(output.shape)
    fits = len(known) == 4 and known[0] == len(rows) and 2 <= known[1] < UNCOVERED
    if fits:
        step = tile.height // known[2] if known[2] else 0
        fits = step > 0 and (known[2] * step, known[3] * step) == (tile.height, tile.width)
        fits = fits and not source.stride.width % step and not source.stride.height % step
    if not fits or (shape is not None and known[1:] != shape):
        said = "" if shape is None else f", before it was {shape}"
        raise bad_output_error(
            output,
            rows,
            source,
            f"(N, K, {tile.height} / n, {tile.width} / n) with 2 <= K <= 254, always the same, and "
            f"n a whole number that parts the stride {source.stride}{said}",
        )
    return to_finite_array(output, rows, source)
