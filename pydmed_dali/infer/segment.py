"""Runs a model that scores every pixel over every slide; a picture of classes for each."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pydmed_dali.dali.info import Info, to_numpy
from pydmed_dali.dali.iterator import SmallChunkIterator
from pydmed_dali.dali.tile_source import TileSource
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.infer.asking import Model, ask, finite, unfit
from pydmed_dali.infer.class_picture import NOTHING, Classes, write_classes
from pydmed_dali.infer.collector import Features, Rows
from pydmed_dali.infer.running import Note, Pass, Predicted, Progress, run_slides
from pydmed_dali.infer.stitch import WINDOWS, Stitcher, blending_weights
from pydmed_dali.pipelines.basic import basic

_VERSION = 1


def segment(
    dataset: Dataset,
    model: Model,
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    tile_size: int | Size = 512,
    stride: int | Size | None = None,
    window: str = "hann",
    on_error: str = "skip",
    rank: int | None = None,
    world_size: int | None = None,
    on_slide: Note | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Predicted:
    """Run `model` over every tile of every slide, and write `folder/NAME.tif` for slide `NAME.*`.

    A file is a tiled, pyramidal TIFF of the class with the highest score at each pixel, 0 to K - 1,
    255 where no tile is, with a palette, so that viewers show it in colours. It covers the slide
    from its upper left corner on, and has as many pixels as the view that was read, or an n-th a
    side where the model gives an n-th. Where tiles overlap, scores are blended by `window`.

    Args:
        model: called with (N, height, width, 3) uint8; returns (N, K, height / n, width / n), K at
            least 2 and at most 255, n a whole number: scores, of which the highest is taken.
        stride: a multiple of n; by default a tile, without overlap. Half a tile is usual.
        window: `hann` or `mean`: see `stitch.blending_weights`.
        dataset, folder, model_name, tile_size, on_error, rank, world_size, on_slide, progress,
            options: as for `predict`, which also tells of errors. Called again, it goes on with
            the slides that have no file: one under way is begun anew.

    Of a slide under way, scores lie in unnamed files in `folder`: 4 * (K + 1) bytes for each pixel
    of one row of BigChunks across the picture, and its classes, a byte a pixel.
    """
    if window not in WINDOWS:
        raise OptionError(f"window must be one of {', '.join(WINDOWS)}, not {window!r}")
    return run_slides(
        dataset,
        folder,
        ".tif",
        {"version": _VERSION, "model_name": model_name, "window": window},
        lambda these: _run(these, model, window, Path(folder)),
        on_error=on_error,
        rank=rank,
        world_size=world_size,
        on_slide=on_slide,
        progress=progress,
        tile_size=tile_size,
        stride=stride,
        **options,
    )


def _run(these: Pass, model: Model, window: str, folder: Path) -> None:
    """Write every slide of the source, and tell of each. Slides come one after the other."""
    source = these.source
    left, under_way, present = dict(source.tiles_per_slide), None, -1
    shape: tuple[int, ...] | None = None
    try:
        for batch in SmallChunkIterator(basic(source), ["image", "label", "info"]):
            rows = to_numpy(batch["info"])
            scores = _scores(model, batch["image"], rows, source, shape)
            shape = scores.shape[1:]
            these.seen(len(rows))
            for slide in dict.fromkeys(rows[:, Info.SLIDE].tolist()):
                if slide != present or under_way is None:
                    under_way, present = _Slide(source, slide, shape, window, folder), slide
                of_slide = rows[:, Info.SLIDE] == slide
                under_way.add(scores[of_slide], rows[of_slide])
                left[slide] -= int(of_slide.sum())
                if not left[slide]:
                    path = source.dataset.slides[slide].path
                    write = partial(
                        write_classes,
                        classes=under_way.classes(),
                        mpp=under_way.mpp,
                        pixel=under_way.pixel,
                    )
                    written = these.results.write(path, write)
                    del write
                    under_way.close()
                    under_way = None
                    these.note(path, written)
    finally:
        if under_way is not None:
            under_way.close()


class _Slide:
    """The scores of one slide, as far as they have come."""

    def __init__(
        self,
        source: TileSource,
        slide: int,
        shape: tuple[int, ...],
        window: str,
        folder: Path,
    ) -> None:
        classes, height, width = shape
        self._step = source.options.crop.height // height
        self._source, self._slide = source, slide
        stride = source.level0_strides[slide]
        self._pixels = Size(source.stride.width // self._step, source.stride.height // self._step)
        extent = source.extents[slide]
        self._borders, self._begun = source.chunk_rows[slide], 0
        self._stitcher = Stitcher(
            folder,
            Size(-(-extent.width // self._step), -(-extent.height // self._step)),
            across=(source.grid_shapes[slide][1] - 1) * self._pixels.width + width,
            rows=(int(np.diff(self._borders).max()) - 1) * self._pixels.height + height,
            weights=blending_weights(window, height, width),
            classes=classes,
        )
        self.mpp: tuple[float, float] | None = None
        self.pixel = (
            stride[0] / self._pixels.width,
            stride[1] / self._pixels.height,
        )

    def add(self, scores: Features, rows: Rows) -> None:
        """Take some tiles, (n, K, height, width)."""
        places = self._source.grid_places(self._slide, rows[:, [Info.X, Info.Y]]).tolist()
        for tile, (line, column) in zip(scores, places, strict=True):
            self._finish_above(line)
            self._stitcher.add(column * self._pixels.width, line * self._pixels.height, tile)
        if rows[0, Info.MPP_PM]:
            side = float(rows[0, Info.MPP_PM]) / 1e6 * self._step
            self.mpp = (side, side)

    def classes(self) -> Classes:
        """(height, width): the class of each pixel of the slide, until `close`."""
        return self._stitcher.classes()

    def _finish_above(self, line: int) -> None:
        """A tile of row `line` came: rows of chunks above its own are over."""
        begin = int(self._borders[np.searchsorted(self._borders, line, "right") - 1])
        if begin > self._begun:
            self._stitcher.finish(begin * self._pixels.height)
            self._begun = begin

    def close(self) -> None:
        """Let go of the files."""
        self._stitcher.close()


def _scores(
    model: Model, tiles: Any, rows: Rows, source: TileSource, shape: tuple[int, ...] | None
) -> Features:
    """What the model says of a batch, (N, K, height, width); `shape` is what it said before."""
    output = ask(model, tiles, rows, source)
    tile = source.options.crop
    known = tuple(output.shape)
    fits = len(known) == 4 and known[0] == len(rows) and 2 <= known[1] < NOTHING
    if fits:
        step = tile.height // known[2] if known[2] else 0
        fits = step > 0 and (known[2] * step, known[3] * step) == (tile.height, tile.width)
        fits = fits and not source.stride.width % step and not source.stride.height % step
    if not fits or (shape is not None and known[1:] != shape):
        said = "" if shape is None else f", before it was {shape}"
        raise unfit(
            output,
            rows,
            source,
            f"(N, K, {tile.height} / n, {tile.width} / n) with 2 <= K <= 254, always the same, and "
            f"n a whole number that parts the stride {source.stride}{said}",
        )
    return finite(output, rows, source)
