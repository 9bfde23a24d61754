"""Finding out, once and of all slides, how much tissue each has: for `balance="tissue"`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydmed_dali.dataset import Dataset, Patient, Record, TissueArea
from pydmed_dali.errors import DatasetError, OptionError
from pydmed_dali.machine import core_count, refuse_crowd
from pydmed_dali.pool.mask_files import Masks, find_masks
from pydmed_dali.pool.notices import Notices
from pydmed_dali.pool.survey import Survey
from pydmed_dali.slide.cache import cache_folder
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.tissue_values import GivenValues
from pydmed_dali.text import shorten_list
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import Failed, Surveyed
from pydmed_dali.worker.read_plan import SurveyPlan
from pydmed_dali.worker.tissue_places import warn_of_little_tissue

logger = logging.getLogger("pydmed_dali.pool")


def measure_tissue(
    dataset: Dataset,
    *,
    masks: Masks | None = None,
    tissue_values: GivenValues | None = None,
    frame: str = "auto",
    default_mpp: float | None = None,
    mpp_override: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    num_workers: int | None = None,
    read_timeout: float = 300.0,
    loader: BigChunkLoader | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The dataset with the tissue area of every slide, by masks computed in worker processes.

    Needed once before `BigChunkSource(balance="tissue")`. The masks are kept in the cache, so that
    it takes moments the next time, and sources with `min_tissue` find them there.

    Args:
        dataset: the patients and their slides.
        masks, tissue_values, frame, cache_dir, read_timeout, loader: as for `BigChunkSource`.
        default_mpp, mpp_override: as for `BigChunkSource`.
        num_workers: processes; by default as many as there are cores. 0 computes in this one.
        progress: called as `progress(done, total)` after each slide, in the calling process.

    Slides that cannot be read are named in the log and have no tissue. Raises `DatasetError` where
    no slide has any, `OptionError` for masks that are not there.
    """
    workers = core_count() if num_workers is None else num_workers
    if not isinstance(workers, int) or workers < 0:
        raise OptionError(f"num_workers must be an int of at least 0, not {num_workers!r}")
    refuse_crowd(workers)
    own = find_masks(dataset, masks, tissue_values, frame)
    paths = [record.path for record in dataset.slides]
    areas = [TissueArea(0.0, None)] * len(paths)
    survey = Survey(
        paths,
        SurveyPlan(
            Scale(level=0, default_mpp=default_mpp, mpp_override=mpp_override),
            cache_folder(cache_dir),
            masks=own,
        ),
        loader or BigChunkLoader(),
        workers,
        read_timeout,
    )
    notices = Notices()
    with survey:
        for done, answer in enumerate(survey, 1):
            areas[answer.number] = _area(answer, paths[answer.number])
            if isinstance(answer, Surveyed):
                notices.say(paths[answer.number], answer.notices)
            if progress is not None:
                progress(done, len(areas))
    if not any(area.pixels for area in areas):
        raise DatasetError(
            f"none of {len(areas)} slides has tissue ({shorten_list(paths)}); "
            "look at them by `pydmed-dali preview`, or give masks of your own"
        )
    return _with_areas(dataset, areas)


def _area(answer: Surveyed | Failed, path: Path) -> TissueArea:
    if isinstance(answer, Failed):
        logger.warning("%s; it counts as a slide without tissue", answer.error)
        return TissueArea(0.0, None)
    assert answer.tissue is not None
    warn_of_little_tissue(path, answer.tissue)
    return TissueArea(answer.tissue * answer.dimensions.area, answer.mpp)


def _with_areas(dataset: Dataset, areas: list[TissueArea]) -> Dataset:
    rest = iter(areas)

    def measured(record: Record) -> Record:
        return replace(record, tissue=next(rest))

    def of(patient: Patient) -> Patient:
        return replace(patient, records=tuple(map(measured, patient.records)))

    return Dataset(tuple(map(of, dataset.patients)), dataset.classes)
