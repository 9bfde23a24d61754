"""Runs a model over every tile of every slide and keeps what it says, one file a slide."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pydmed_dali.dali.info import Info, to_numpy
from pydmed_dali.dali.iterator import SmallChunkIterator
from pydmed_dali.dali.ranks import choose_rank
from pydmed_dali.dali.tile_source import TileSource
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import (
    NoTilesError,
    OptionError,
    OwnCodeError,
    SlideError,
    SlideReadError,
)
from pydmed_dali.geometry import Size
from pydmed_dali.infer.collector import Collector, Features, Rows
from pydmed_dali.infer.folder import ResultFolder
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.plan.tile_window import share_slides
from pydmed_dali.slide.open_slide import READERS
from pydmed_dali.wording import some

Model = Callable[[torch.Tensor], torch.Tensor]

_VERSION = 1

logger = logging.getLogger("pydmed_dali.infer")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a call of `predict` did."""

    written: tuple[Path, ...]
    """Files that it wrote, in the dataset's order."""
    kept: tuple[Path, ...]
    """Files of slides that an earlier call had finished."""
    slides_skipped: dict[Path, str]
    """Slides that cannot be read, or have no tile that is wanted, with the reason: they have no
    file."""


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
    min_tissue: float | None = None,
    classes: Sequence[str] | None = None,
    on_error: str = "skip",
    rank: int | None = None,
    world_size: int | None = None,
    on_slide: Callable[[Path, Path], object] | None = None,
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
        tile_size, stride, level, mpp, min_tissue, classes, options: as for `TileSource`.
        on_error: `skip` goes on without a slide that cannot be read, and names it in
            `slides_skipped`; `raise` ends with its error.
        rank, world_size: this process and how many there are; by default those of torch.distributed
            where it is initialised, else those that torchrun tells, else one.
        on_slide: called with a slide's path and that of its file, once it is written.

    Raises `OptionError` where the folder holds another run's results, `OwnCodeError` where the
    model raises or returns what it must not, with the slides of the batch, `ResultError` where a
    file cannot be written, and `NoTilesError` where there is no result at all.
    """
    tile = Size.of(tile_size, "tile_size")
    step = tile if stride is None else Size.of(stride, "stride")
    if on_error not in ("skip", "raise"):
        raise OptionError(f"on_error must be 'skip' or 'raise', not {on_error!r}")
    annotated = options.get("annotations") is not None
    run = {
        "version": _VERSION,
        "model_name": model_name,
        "tile_size": str(tile),
        "stride": str(step),
        "level": 0 if level is None and mpp is None else level,
        "mpp": mpp,
        "min_tissue": min_tissue,
        "masks": None if options.get("masks") is None else "own masks",
        "annotated": (None if classes is None else list(classes)) if annotated else False,
        "readers": READERS,
    }
    results = ResultFolder(folder, run, [record.path for record in dataset.slides])
    own = _share(dataset, *choose_rank(rank, world_size))
    files = [results.file(path) for path in own]
    kept = tuple(file for file in files if file.exists())
    written: dict[Path, Path] = {}
    skipped: dict[Path, str] = {}

    def note(path: Path, file: Path) -> None:
        written[path] = file
        if on_slide is not None:
            on_slide(path, file)

    while left := _only(dataset, [p for p in own if p not in skipped and not results.has(p)]):
        try:
            with TileSource(
                left,
                tile_size=tile,
                stride=step,
                level=level,
                mpp=mpp,
                min_tissue=min_tissue,
                classes=classes,
                **options,
            ) as source:
                found = source.report().slides_skipped
                if found and on_error == "raise":
                    raise SlideReadError(next(iter(found.values())))
                skipped |= found
                _run(source, model, results, note)
        except NoTilesError as error:
            if on_error == "raise" or not (written or kept or skipped):
                raise
            skipped |= error.slides_skipped
        except SlideError as error:
            bad = _slide_of(error, left)
            if on_error == "raise" or bad is None:
                raise
            # As text: a log that is kept would keep the error, and by its traceback the ring.
            logger.warning("%s; the slide is skipped", str(error))
            skipped[bad] = str(error)
    return Predicted(tuple(written[p] for p in own if p in written), kept, skipped)


def _run(
    source: TileSource, model: Model, results: ResultFolder, note: Callable[[Path, Path], object]
) -> None:
    """Write every slide of the source, and tell of each."""
    collector = Collector(source.tiles_per_slide)
    width: int | None = None
    for batch in SmallChunkIterator(basic(source), ["image", "label", "info"]):
        rows = to_numpy(batch["info"])
        features = _features(model, batch["image"], rows, source, width)
        width = features.shape[1]
        for found in collector.add(features, rows):
            path = source.dataset.slides[found.slide].path
            note(path, results.write(path, found, source.level0_strides[found.slide]))


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


def _share(dataset: Dataset, rank: int, world_size: int) -> list[Path]:
    """The slides of a rank, by the size of their files, which is about what there is to decode."""
    paths = [record.path for record in dataset.slides]
    sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    return [paths[slide] for slide in share_slides(sizes, world_size)[rank]]


def _slide_of(error: SlideError, dataset: Dataset) -> Path | None:
    """The slide that an error names."""
    named = [record.path for record in dataset.slides if str(record.path) in str(error)]
    return max(named, key=lambda path: len(str(path)), default=None)


def _only(dataset: Dataset, paths: Collection[Path]) -> Dataset | None:
    """The dataset with these slides only; None where there is none."""
    chosen = set(paths)
    patients = []
    for patient in dataset.patients:
        records = tuple(record for record in patient.records if record.path in chosen)
        if records:
            patients.append(replace(patient, records=records))
    return Dataset(tuple(patients), dataset.classes) if patients else None
