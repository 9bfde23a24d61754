"""Runs a model over every tile of every slide and keeps what it says, one file a slide."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pydmed_dali.dali.info import to_numpy
from pydmed_dali.dali.iterator import SmallChunkIterator
from pydmed_dali.dali.tile_source import TileSource
from pydmed_dali.dataset import Dataset
from pydmed_dali.geometry import Size
from pydmed_dali.infer.asking import Model, ask, finite, unfit
from pydmed_dali.infer.collector import Collector, Features, Rows
from pydmed_dali.infer.feature_file import to_hdf5
from pydmed_dali.infer.folder import ResultFolder
from pydmed_dali.infer.running import Note, Predicted, run_slides
from pydmed_dali.pipelines.basic import basic

_VERSION = 1


def predict(
    dataset: Dataset,
    model: Model,
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    tile_size: int | Size = 224,
    stride: int | Size | None = None,
    on_error: str = "skip",
    rank: int | None = None,
    world_size: int | None = None,
    on_slide: Note | None = None,
    **options: Any,
) -> Predicted:
    """Run `model` over every tile of every slide, and write `folder/NAME.h5` for slide `NAME.*`.

    A file has `features`, (n_tiles, K) float32, and `coords`, (n_tiles, 2) int64: (x, y) of each
    tile's upper left corner, in level-0 pixels. The attributes of `coords` are `patch_size`, in the
    pixels that the model saw, `patch_size_level0`, `patch_level`, the level that was read, and
    `mpp`, micrometres per pixel that the model saw, where it is known. A file is there only when
    its slide is complete. `folder/run.json` tells what the results follow from.

    Called again after whatever ended it, it goes on with the slides that have no file yet. Called
    by several ranks, on the same dataset and folder, each does its share of the slides, by the size
    of their files; they need not wait for each other, and all files together are those of one call.

    Args:
        dataset: the patients and their slides; two slides must not have the same name.
        model: called with (N, height, width, 3) uint8 on the source's device, in inference mode;
            returns (N, K), K the same each time, of finite numbers. N is at most `batch_size`. A
            network that takes (N, 3, height, width) floats is given as
            `lambda tiles: network(tiles.permute(0, 3, 1, 2) / 255)`.
        folder: where results go; made where it is missing.
        model_name: what tells this model, with its weights, from others, for `run.json`.
        tile_size, stride, options: as for `TileSource`.
        on_error: `skip` goes on without a slide that cannot be read, and names it in
            `slides_skipped`; `raise` ends with its error.
        rank, world_size: this process and how many there are; by default those of torch.distributed
            where it is initialised, else those that torchrun tells, else one.
        on_slide: called with a slide's path and that of its file, once it is written.

    Raises `OptionError` where the folder holds another run's results, `OwnCodeError` where the
    model raises or returns what it must not, with the slides of the batch, `ResultError` where a
    file cannot be written, and `NoTilesError` where there is no result at all.
    """
    return run_slides(
        dataset,
        folder,
        ".h5",
        {"version": _VERSION, "model_name": model_name},
        lambda source, results, note: _run(source, model, results, note),
        on_error=on_error,
        rank=rank,
        world_size=world_size,
        on_slide=on_slide,
        tile_size=tile_size,
        stride=stride,
        **options,
    )


def _run(source: TileSource, model: Model, results: ResultFolder, note: Note) -> None:
    """Write every slide of the source, and tell of each."""
    collector = Collector(source.tiles_per_slide)
    width: int | None = None
    for batch in SmallChunkIterator(basic(source), ["image", "label", "info"]):
        rows = to_numpy(batch["info"])
        features = _features(model, batch["image"], rows, source, width)
        width = features.shape[1]
        for found in collector.add(features, rows):
            path = source.dataset.slides[found.slide].path
            content = to_hdf5(found, source.level0_strides[found.slide])
            note(path, results.write(path, partial(Path.write_bytes, data=content)))


def _features(
    model: Model, tiles: torch.Tensor, rows: Rows, source: TileSource, width: int | None
) -> Features:
    """What the model says of a batch, (n, K) float32; `width` is K where it is known."""
    output = ask(model, tiles, rows, source)
    shape = tuple(output.shape)
    fits = len(shape) == 2 and shape[0] == len(rows) and shape[1] == (width or shape[1]) > 0
    if not fits:
        wanted = f"({len(rows)}, {'K' if width is None else width})"
        raise unfit(output, rows, source, f"a tensor of shape {wanted}")
    return finite(output, rows, source)
