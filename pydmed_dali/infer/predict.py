"""Runs a model over every tile of every slide and keeps what it says, one file a slide."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pydmed_dali.dataset import Dataset
from pydmed_dali.geometry import Size
from pydmed_dali.infer.collector import Collector, Features, Rows, SlideFeatures
from pydmed_dali.infer.feature_file import FeatureFile, attribute_of, content_of, writer
from pydmed_dali.infer.feature_log import FeatureLog, LoggedTiles, identity_of
from pydmed_dali.infer.model_call import bad_output_error, call_model, to_finite_array
from pydmed_dali.infer.model_input import RAW, FedModel, Model
from pydmed_dali.infer.result_folder import CONTENT, ResultFolder, origin
from pydmed_dali.infer.slide_runner import (
    Corners,
    InferenceResult,
    Note,
    Progress,
    RunContext,
    StaleError,
    run_slides,
)
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.source.iterator import SmallChunkIterator
from pydmed_dali.source.provenance import InfoColumn, to_numpy
from pydmed_dali.source.tile_source import TileSource

_VERSION = 1
_SAVE_SECONDS = 10.0  # of work that may have to be done again


def predict(
    dataset: Dataset,
    model: Model,
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    normalize: str = RAW,
    tile_size: int | Size = 224,
    stride: int | Size | None = None,
    on_error: str = "skip",
    rank: int | None = None,
    world_size: int | None = None,
    on_slide: Note | None = None,
    progress: Progress | None = None,
    file_format: str = "h5",
    **options: Any,
) -> InferenceResult:
    """Run `model` over every tile of every slide, and write `folder/NAME.h5` for slide `NAME.*`.

    Slides of one name are told apart by their folders: `A--NAME.h5` for `A/NAME.*`.

    A file has `features`, (n_tiles, K) float32, and `coords`, (n_tiles, 2) int64: (x, y) of each
    tile's upper left corner, in level-0 pixels, row by row. The attributes of `coords` are
    `patch_size`, in the pixels that the model saw, `patch_size_level0`, `patch_level`, the level
    that was read, `mpp`, micrometres per pixel that the model saw, where it is known, `slide`, the
    slide's path below the dataset's folder, and `slide_content`, which tells its file from others.
    `read_features` reads it. A file is there only when its slide is complete. `folder/run.json`
    tells what the results follow from.

    Called again after any interruption, it goes on with the tiles that are missing. The results
    of an unfinished slide are saved in `folder` every 10 s. Called by several ranks, on the
    same dataset and folder, each does its share of the slides, by the size of their files; they
    need not wait for each other, and all files together are those of one call.

    Args:
        dataset: the patients and their slides.
        model: called with tiles as `normalize` says, on the source's device, in inference mode;
            returns (N, K), K the same each time, of finite numbers. N is at most `batch_size`.
        folder: where results go; made where it is missing.
        model_name: what tells this model, with its weights, from others, for `run.json`.
        normalize: how the model is given tiles, and the same words as `--normalize` of `pydmed-dali
            infer`. By default `raw`: (N, height, width, 3) uint8. `none`: (N, 3, height, width)
            float32 from 0 to 1. `imagenet`: that, less ImageNet's mean, by its standard deviation,
            as the pipeline `classification` gives images. Or six numbers with commas: three means
            and three standard deviations. Kept in `run.json`, and in the attributes of `coords`.
        tile_size, stride, options: as for `TileSource`.
        on_error: `skip` goes on without a slide that cannot be read, and names it in
            `slides_skipped`; `raise` ends with its error.
        rank, world_size: this process and how many there are; by default those of torch.distributed
            where it is initialised, else those that torchrun tells, else one.
        on_slide: called with a slide's path and that of its file, once it is written.
        progress: called as `progress(done, total)` after each batch: tiles of this call. Slides are
            looked at 256 at a time; of those that were not yet, the total has the others' mean.
        file_format: `h5`, or `zarr` for Zarr groups, `folder/NAME.zarr`, of the same arrays and
            attributes (extra `zarr`).

    Raises `OptionError` where the folder holds another run's results, `UserCodeError` where the
    model raises or returns what it must not, with the slides of the batch, `ResultError` where a
    file cannot be written, and `NoTilesError` where there is no result at all.
    """
    write = writer(file_format)
    fed = FedModel.of(model, normalize)
    return run_slides(
        dataset,
        folder,
        f".{file_format}",
        {"version": _VERSION, "model_name": model_name, **fed.given.record},
        lambda results: _Prediction(results, fed, write),
        on_error=on_error,
        rank=rank,
        world_size=world_size,
        on_slide=on_slide,
        progress=progress,
        tile_size=tile_size,
        stride=stride,
        **options,
    )


class _Prediction:
    """A `Work`: a file of features for each slide."""

    def __init__(
        self, results: ResultFolder, model: FedModel, write: Callable[[FeatureFile, Path], object]
    ) -> None:
        self._results, self._model, self._write = results, model, write
        self._begun: dict[int, LoggedTiles] = {}
        self._forgotten: set[Path] = set()

    def begun(self, dataset: Dataset) -> dict[Path, Corners]:
        """See `Work.begun`."""
        found = {
            slide: self._log(record.path).begun(record.path)
            for slide, record in enumerate(dataset.slides)
            if record.path not in self._forgotten
        }
        self._begun = {slide: begun for slide, begun in found.items() if begun is not None}
        return {dataset.slides[slide].path: b.corners for slide, b in self._begun.items()}

    def write_all(self, these: RunContext) -> None:
        """See `Work.write_all`."""
        source = these.source
        collector = Collector(source.tiles_per_slide)
        width = next((begun.width for begun in self._begun.values()), None)
        saved = time.monotonic()
        try:
            for batch in SmallChunkIterator(basic(source)):
                rows = to_numpy(batch["info"])
                for slide in np.unique(rows[:, InfoColumn.SLIDE]).tolist():
                    self._go_on(slide, source, collector)
                features = _features(self._model, batch["image"], rows, source, width)
                width = features.shape[1]
                these.seen(len(rows))
                for found in collector.add(features, rows):
                    record = source.dataset.slides[found.slide]
                    path, told = record.path, origin(record, source.file_of(found.slide))
                    told |= self._model.given.record
                    content = content_of(found, source.level0_strides[found.slide], told)
                    these.note(path, self._results.write(path, partial(self._write, content)))
                    self.forget(path)
                if time.monotonic() - saved >= _SAVE_SECONDS:
                    self._save(collector, source)
                    saved = time.monotonic()
        finally:
            self._save(collector, source)

    def forget(self, slide: Path) -> None:
        """See `Work.forget`."""
        self._forgotten.add(slide)
        self._log(slide).remove()

    def content_in(self, file: Path) -> str | None:
        """See `Work.content_in`."""
        return attribute_of(file, CONTENT)

    def _log(self, slide: Path) -> FeatureLog:
        return FeatureLog(self._results.under_way(slide, "tiles"))

    def _go_on(self, slide: int, source: TileSource, collector: Collector) -> None:
        """Tiles of a slide come: give the collector those that are left out as done, once.

        Raises `StaleError` where they are of another file, or there no more.
        """
        begun = self._begun.pop(slide, None)
        if begun is None:
            return
        path = source.dataset.slides[slide].path
        done = int(source.is_done(slide, begun.corners).sum())
        part = self._log(path).load(slide)
        file = source.file_of(slide)
        if part is None or file is None or begun.identity != identity_of(file):
            raise StaleError(path)
        kept = source.is_done(slide, part.rows[:, [InfoColumn.X, InfoColumn.Y]])
        if int(kept.sum()) != done:
            raise StaleError(path)
        if done:
            collector.begin(SlideFeatures(slide, part.features[kept], part.rows[kept]))

    def _save(self, collector: Collector, source: TileSource) -> None:
        """Save the results of slides that are not finished.

        Slides whose file cannot be seen are not saved, since their identity could not be checked
        when the run goes on.
        """
        for part in collector.unsaved():
            file = source.file_of(part.slide)
            log = self._log(source.dataset.slides[part.slide].path)
            if file is not None and not log.append(part, file):
                collector.put_back(part)


def _features(
    model: FedModel, tiles: torch.Tensor, rows: Rows, source: TileSource, width: int | None
) -> Features:
    """What the model says of a batch, (n, K) float32; `width` is K where it is known."""
    output = call_model(model, tiles, rows, source)
    shape = tuple(output.shape)
    fits = len(shape) == 2 and shape[0] == len(rows) and shape[1] == (width or shape[1]) > 0
    if not fits:
        wanted = f"({len(rows)}, {'K' if width is None else width})"
        before = (
            "" if width is None else ", as for the tiles before, those of earlier calls included"
        )
        raise bad_output_error(output, rows, source, f"a tensor of shape {wanted}{before}")
    return to_finite_array(output, rows, source)
