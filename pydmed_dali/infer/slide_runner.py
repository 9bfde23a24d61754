"""Running over slides until each has a file: what all kinds of results have in common."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.annotation.class_names import check_exclusions
from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import (
    NoTilesError,
    OptionError,
    SlideChangedError,
    SlideError,
    SlideReadError,
)
from pydmed_dali.geometry import Size
from pydmed_dali.infer.result_folder import ResultFolder
from pydmed_dali.plan.tile_window import share_slides
from pydmed_dali.pool.annotation_files import plan_annotations
from pydmed_dali.pool.mask_files import mask_rules
from pydmed_dali.slide.cache import cache_folder
from pydmed_dali.slide.file_identity import file_identity
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.slide.open_slide import READERS
from pydmed_dali.source.ranks import choose_rank
from pydmed_dali.source.tile_source import TileSource
from pydmed_dali.text import shorten_list
from pydmed_dali.worker.annotation_plan import AnnotationPlan, ReadingRules

logger = logging.getLogger("pydmed_dali.infer")

_TOGETHER = 256  # slides that are looked at before the first of them is run

Note = Callable[[Path, Path], object]
"""Called with a slide's path and that of its file, once it is written."""


Progress = Callable[[int, int], object]
"""Called with how many tiles the model has seen in this call, and how many there are for it: of
slides that were not looked at yet, as many as others have."""

Seen = Callable[[int], object]
"""Called with how many tiles a batch had, once the model has seen them."""


Corners = NDArray[np.int64]
"""(n, 2): (x, y) of tiles, in level-0 pixels."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """One attempt over the remaining slides."""

    source: TileSource
    note: Note
    seen: Seen


class StaleError(Exception):
    """What an earlier call kept of a slide is damaged, or of another file than what comes."""

    def __init__(self, slide: Path) -> None:
        super().__init__(f"{slide}: what was kept of it is damaged, or of another file")
        self.slide = slide


class ResultWriter(Protocol):
    """What is done with tiles: a kind of results, in a folder of its own."""

    def begun(self, dataset: Dataset) -> dict[Path, Corners]:
        """The tiles that an earlier call did, of slides of this dataset that it did not finish.

        Slides that were passed to `forget` are not included.
        """
        ...

    def write_all(self, these: RunContext) -> None:
        """Write every slide of the source, and tell of each; may raise `StaleError`."""
        ...

    def forget(self, slide: Path) -> None:
        """Remove what is kept of a slide that is not finished."""
        ...

    def content_in(self, file: Path) -> str | None:
        """`FileIdentity.content` of the slide that a finished file is of; None where not known."""
        ...


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What a call of `predict` or `segment` did."""

    written: tuple[Path, ...]
    """Files that it wrote, in the dataset's order."""
    kept: tuple[Path, ...]
    """Files of slides that an earlier call had finished."""
    slides_skipped: dict[Path, str]
    """Slides that cannot be read, have no tile that is wanted, or whose file holds the results of
    another slide, with the reason."""
    kept_slides: tuple[Path, ...] = field(default=(), compare=False, repr=False)
    """The slides of the files in `kept`."""


def run_slides(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    suffix: str,
    run: Mapping[str, Any],
    start: Callable[[ResultFolder], ResultWriter],
    *,
    on_error: str,
    rank: int | None,
    world_size: int | None,
    on_slide: Note | None,
    progress: Progress | None,
    tile_size: int | Size,
    stride: int | Size | None,
    **options: Any,
) -> InferenceResult:
    """Have a `ResultWriter` write a file for each slide of this rank that has none; see `predict`.

    `run` is what results follow from beside the slide and the options that are known here. Where a
    slide goes bad on the way, another source goes on with what is left.
    """
    if on_error not in ("skip", "raise"):
        raise OptionError(f"on_error must be 'skip' or 'raise', not {on_error!r}")
    check_exclusions(options.get("exclusions", EXCLUSIONS))
    check_frame(options.get("frame", "auto"))
    tile = Size.of(tile_size, "tile_size")
    step = tile if stride is None else Size.of(stride, "stride")
    if all(options.get(name) is None for name in ("level", "mpp", "magnification")):
        options["level"] = 0
    rank, world_size, _ = choose_rank(rank, world_size)
    results = ResultFolder(
        folder,
        suffix,
        {**run, **_identity(tile, step, options)},
        dataset.slides,
    )
    own = _share(dataset, rank, world_size)
    options |= {"tile_size": tile, "stride": step, "rank": rank, "world_size": world_size}
    try:
        return _over(dataset, own, results, start(results), on_error, on_slide, progress, options)
    except BaseException:
        if world_size == 1:  # other ranks may be about to write
            results.forget_run()
        raise


def _over(
    dataset: Dataset,
    own: Sequence[Path],
    results: ResultFolder,
    work: ResultWriter,
    on_error: str,
    on_slide: Note | None,
    progress: Progress | None,
    options: dict[str, Any],
) -> InferenceResult:
    """See `run_slides`; `own` are this rank's slides."""
    finished = [path for path in own if results.has(path)]
    for path in finished:
        work.forget(path)  # what ended a call may have come just before
    strange = _of_others(finished, results, work)
    if strange and on_error == "raise":
        raise SlideReadError(next(iter(strange.values())))
    kept_slides = tuple(path for path in finished if path not in strange)
    kept = tuple(results.file(path) for path in kept_slides)
    plan = plan_annotations(
        dataset,
        options.pop("annotations", None),
        options.pop("classes", None),
        cache_folder(options.get("cache_dir")),
        options.pop("exclusions", EXCLUSIONS),
        options.pop("max_annotation_bytes", MOST_BYTES),
        options.get("frame", "auto"),
    )
    skipped = strange | ({} if plan is None else _without_regions(own, plan))
    over = {*skipped, *finished}
    left = [path for path in own if path not in over]
    going = _SlideRunner(dataset, work, plan, options, on_error, on_slide, progress, left)
    for begin in range(0, len(left), _TOGETHER):
        going.over(left[begin : begin + _TOGETHER])
    if (going.skipped or strange) and not (going.written or kept or skipped.keys() - strange):
        raise NoTilesError.of(strange | going.skipped)
    skipped |= going.skipped
    return InferenceResult(tuple(going.written.values()), kept, skipped, kept_slides)


def _of_others(
    finished: Iterable[Path], results: ResultFolder, work: ResultWriter
) -> dict[Path, str]:
    """Slides whose file of results is of another slide, with the reason.

    Files that say nothing of it, and slides that are out of reach, count as right.
    """
    found = {}
    for path in finished:
        there = work.content_in(results.file(path))
        slide = None if there is None else file_identity(path)
        if slide is not None and slide.content != there:
            found[path] = (
                f"{path}: {results.file(path)} holds the results of another file of this name, and "
                "stays; use another folder, or one dataset of all slides, or remove it to have the "
                "slide run anew"
            )
            logger.warning("%s", found[path])
    return found


class _SlideRunner:
    """Over slides, some at a time: a slide that goes bad has only those with it looked at again."""

    def __init__(
        self,
        dataset: Dataset,
        work: ResultWriter,
        plan: AnnotationPlan | None,
        options: dict[str, Any],
        on_error: str,
        on_slide: Note | None,
        progress: Progress | None,
        slides: Sequence[Path],
    ) -> None:
        self._dataset, self._work = dataset, work
        self._plan, self._options, self._on_error = plan, options, on_error
        self._on_slide, self._progress = on_slide, progress
        self._to_look_at, self._looked_at, self._tiles_found = len(slides), 0, 0
        self._tiles = self._total = 0
        self._changed: set[Path] = set()
        self.written: dict[Path, Path] = {}
        self.skipped: dict[Path, str] = {}

    def over(self, slides: Sequence[Path]) -> None:
        """Write a file for each of these slides, or say why there is none."""
        self._to_look_at -= len(slides)
        while left := _only(
            self._dataset, [p for p in slides if p not in self.skipped and p not in self.written]
        ):
            try:
                self._run(left)
            except NoTilesError as error:
                if self._on_error == "raise":
                    raise
                self.skipped |= error.slides_skipped
            except SlideError as error:
                bad = _slide_of(error, left)
                if self._on_error == "raise" or bad is None:
                    raise
                # As text: a log that is kept would keep the error, and by its traceback the ring.
                if isinstance(error, SlideChangedError) and bad not in self._changed:
                    self._changed.add(bad)
                    logger.warning("%s; the slide is run anew, once", str(error))
                else:
                    logger.warning("%s; the slide is skipped", str(error))
                    self.skipped[bad] = str(error)
                if os.path.exists(bad):  # else it is out of reach, and may come back
                    self._work.forget(bad)  # what many bad slides leave would fill the disk
            except StaleError as stale:
                logger.warning(
                    "%s: what was kept of it is damaged or of another file; it is run anew",
                    stale.slide,
                )
                self._work.forget(stale.slide)

    def _run(self, left: Dataset) -> None:
        annotated = None if self._plan is None else self._plan.only(left)
        done = self._work.begun(left)
        with TileSource(left, done=done, annotations=annotated, **self._options) as source:
            found = source.report().slides_skipped
            if found and self._on_error == "raise":
                raise SlideReadError(next(iter(found.values())))
            self.skipped |= found
            tiles = sum(source.tiles_per_slide.values())
            self._looked_at += len(left.slides)
            self._tiles_found += tiles
            to_come = self._to_look_at * self._tiles_found / self._looked_at
            self._total = self._tiles + tiles + round(to_come)
            self._work.write_all(RunContext(source, self._note, self._seen))

    def _note(self, path: Path, file: Path) -> None:
        self.written[path] = file
        if self._on_slide is not None:
            self._on_slide(path, file)

    def _seen(self, count: int) -> None:
        self._tiles += count
        if self._progress is not None:
            self._progress(self._tiles, self._total)


def _identity(tile: Size, stride: Size, options: Mapping[str, Any]) -> dict[str, Any]:
    """What results follow from, of these options."""
    classes = options.get("classes")
    annotated = options.get("annotations") is not None
    rules = ReadingRules(tuple(options.get("exclusions", EXCLUSIONS)))
    # Only where they are given, so that what was begun before there were any can be gone on with.
    more = {name: options.get(name) for name in ("magnification", "default_mpp", "mpp_override")}
    frame = options.get("frame", "auto")
    more["frame"] = None if frame == "auto" or not annotated else frame
    return {
        **{name: value for name, value in more.items() if value is not None},
        "tile_size": str(tile),
        "stride": str(stride),
        "level": options.get("level"),
        "mpp": options.get("mpp"),
        "min_tissue": options.get("min_tissue"),
        "masks": mask_rules(*map(options.get, ("min_tissue", "masks", "tissue_values", "frame"))),
        "annotated": (None if classes is None else list(classes)) if annotated else False,
        **({"exclusions": rules.identity} if annotated else {}),
        "readers": READERS,
    }


def _share(dataset: Dataset, rank: int, world_size: int) -> list[Path]:
    """The slides of a rank, by the size of their files, which is about what there is to decode."""
    paths = [record.path for record in dataset.slides]
    shares = share_slides([_size(path) for path in paths], world_size)
    return [paths[slide] for slide in shares[rank]]


def _size(path: Path) -> int:
    """Bytes of a slide's file, at least 1; 1 where that cannot be seen, which is told later."""
    try:
        return max(path.stat().st_size, 1)
    except OSError:
        return 1


def _without_regions(paths: Sequence[Path], plan: AnnotationPlan) -> dict[Path, str]:
    """Slides on which nothing of the classes is drawn, with the reason."""
    wanted = shorten_list(plan.classes)
    found = {path: plan.files[path].regions if path in plan.files else {} for path in paths}
    return {
        path: f"{path}: nothing on it is annotated as {wanted}"
        + (f", only as {shorten_list([repr(name) for name in regions])}" if regions else "")
        for path, regions in found.items()
        if not any(name in regions for name in plan.classes)
    }


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
