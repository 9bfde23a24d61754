"""Runs a model over every tile of every slide and keeps what it says, one file a slide."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pydmed_dali.dali.info import Info, to_numpy
from pydmed_dali.dali.iterator import SmallChunkIterator
from pydmed_dali.dali.tile_source import TileSource
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OwnCodeError
from pydmed_dali.geometry import Size
from pydmed_dali.infer.collector import Collector, Features, Rows
from pydmed_dali.infer.folder import ResultFolder
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.slide.open_slide import READERS
from pydmed_dali.wording import some

Model = Callable[[torch.Tensor], torch.Tensor]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a call of `predict` did."""

    written: tuple[Path, ...]
    """Files that it wrote, in the dataset's order."""
    kept: tuple[Path, ...]
    """Files of slides that an earlier call had finished."""
    slides_skipped: dict[Path, str]
    """Slides that cannot be opened, with the reason: they have no file."""


def predict(
    dataset: Dataset,
    model: Model,
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    tile_size: int | Size = 224,
    stride: int | Size | None = None,
    level: int | None = None,
    mpp: float | None = None,
    **options: Any,
) -> Predicted:
    """Run `model` over every tile of every slide, and write `folder/NAME.h5` for slide `NAME.*`.

    A file has `features`, (n_tiles, K) float32, and `coords`, (n_tiles, 2) int64: (x, y) of each
    tile's upper left corner, in level-0 pixels. The attributes of `coords` are `patch_size`, in the
    pixels that the model saw, `patch_size_level0`, `patch_level`, the level that was read, and
    `mpp`, micrometres per pixel that the model saw, where it is known. A file is there only when
    its slide is complete. `folder/run.json` tells what the results follow from.

    Called again after whatever ended it, it goes on with the slides that have no file yet.

    Args:
        dataset: the patients and their slides; two slides must not have the same name.
        model: called with (N, height, width, 3) uint8 on the source's device, in inference mode;
            returns (N, K), K the same each time, of finite numbers. N is at most `batch_size`. A
            network that takes (N, 3, height, width) floats is given as
            `lambda tiles: network(tiles.permute(0, 3, 1, 2) / 255)`.
        folder: where results go; made where it is missing.
        model_name: what tells this model, with its weights, from others, for `run.json`.
        tile_size, stride, level, mpp, options: as for `TileSource`.

    Raises `OptionError` where the folder holds another run's results, `OwnCodeError` where the
    model raises or returns what it must not, with the slides of the batch, `DatasetError` where
    none of the slides that are left can be opened, and a `SlideError` where one goes bad while it
    is read.
    """
    tile = Size.of(tile_size, "tile_size")
    step = tile if stride is None else Size.of(stride, "stride")
    run = {
        "version": _VERSION,
        "model_name": model_name,
        "tile_size": str(tile),
        "stride": str(step),
        "level": 0 if level is None and mpp is None else level,
        "mpp": mpp,
        "readers": READERS,
    }
    results = ResultFolder(folder, run, [record.path for record in dataset.slides])
    kept = [results.file(record.path) for record in dataset.slides]
    kept = [file for file in kept if file.exists()]
    left = _without(dataset, lambda path: results.file(path).exists())
    if left is None:
        return Predicted((), tuple(kept), {})
    with TileSource(left, tile_size=tile, stride=step, level=level, mpp=mpp, **options) as source:
        written = _run(source, model, results)
        return Predicted(tuple(written), tuple(kept), source.report().slides_skipped)


def _run(source: TileSource, model: Model, results: ResultFolder) -> list[Path]:
    """Write every slide of the source; the files."""
    collector = Collector(source.tiles_per_slide)
    written: list[Path] = []
    width: int | None = None
    for batch in SmallChunkIterator(basic(source), ["image", "label", "info"]):
        rows = to_numpy(batch["info"])
        features = _features(model, batch["image"], rows, source, width)
        width = features.shape[1]
        for found in collector.add(features, rows):
            written.append(results.write(source.dataset.slides[found.slide].path, found))
    return written


def _features(
    model: Model, tiles: torch.Tensor, rows: Rows, source: TileSource, width: int | None
) -> Features:
    """What the model says of a batch, (n, K) float32; `width` is K where it is known."""
    numbers = sorted(set(rows[:, Info.SLIDE].tolist()))
    where = some([source.dataset.slides[number].path for number in numbers])
    try:
        with torch.inference_mode():
            output = model(tiles)
    except Exception as error:
        raise OwnCodeError(f"the model raised {error!r}, for tiles of {where}") from error
    shape = tuple(getattr(output, "shape", ()))
    wanted = f"({len(rows)}, {'K' if width is None else width})"
    fits = len(shape) == 2 and shape[0] == len(rows) and shape[1] == (width or shape[1]) > 0
    if not isinstance(output, torch.Tensor) or not fits:
        raise OwnCodeError(
            f"the model returned {type(output).__name__} of shape {shape} for {len(rows)} tiles of "
            f"{where}; it must return a tensor of shape {wanted}"
        )
    features = output.detach().to(device="cpu", dtype=torch.float32)
    finite = torch.isfinite(features).all(dim=1).numpy()
    if not finite.all():
        row = rows[~finite][0]
        path = source.dataset.slides[int(row[Info.SLIDE])].path
        raise OwnCodeError(
            f"the model returned what is no finite number for {int((~finite).sum())} of "
            f"{len(rows)} tiles, the first one of {path} at x={row[Info.X]}, y={row[Info.Y]} "
            "(level-0 pixels)"
        )
    found: Features = features.numpy()
    return found


def _without(dataset: Dataset, is_done: Callable[[Path], bool]) -> Dataset | None:
    """The dataset without the slides that are done; None where none is left."""
    patients = []
    for patient in dataset.patients:
        records = tuple(record for record in patient.records if not is_done(record.path))
        if records:
            patients.append(replace(patient, records=records))
    return Dataset(tuple(patients), dataset.classes) if patients else None
