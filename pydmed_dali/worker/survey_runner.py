"""Surveying slides: what a worker does with a `SurveySlide`; nothing is loaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.slide import Slide
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.failure import failure
from pydmed_dali.worker.messages import Failed, Surveyed, SurveySlide
from pydmed_dali.worker.open_slides import OpenSlides
from pydmed_dali.worker.read_plan import SurveyPlan
from pydmed_dali.worker.tile_filter import TileFilter, TilesPlan
from pydmed_dali.worker.tissue_places import find_mask


class SurveyRunner:
    """Surveys slides, one at a time, keeping a few of them open."""

    def __init__(self, plan: SurveyPlan, loader: BigChunkLoader) -> None:
        self._plan = plan
        loader.cache = self._cache = Cache(plan.cache)
        self._slides = OpenSlides(loader)
        self._filter: TileFilter | None = None
        if plan.tiles is not None:
            self._filter = TileFilter(plan.tiles, self._cache, plan.scale)

    def run(self, task: SurveySlide) -> Surveyed | Failed:
        """Survey the task's slide, or say why not; raises nothing but what ends a process."""
        try:
            found = self._survey(task, self._slides.get(task.path))
            # Afterwards, so that a file which changes while it is read is noticed too.
            self._slides.check_file(task.path)
        except Exception as error:
            return failure(task, error, False, self._slides)
        return found

    def close(self) -> None:
        """Close the slides that are still open."""
        self._slides.close()

    def _survey(self, task: SurveySlide, slide: Slide) -> Surveyed:
        plan = self._plan
        view = plan.scale.view(slide.facts, task.path)
        tissue, notices = None, list[str]()
        if plan.masks is not None:
            own = plan.masks.get(task.path)
            mask = find_mask(task.path, slide, own, self._cache, plan.scale)
            tissue, notices = mask.share, [mask.notice]
        wanted = None
        if self._filter is not None and plan.tiles is not None and not plan.tiles.wants_all(view):
            found, tissue, chosen = self._filter.find(task.path, slide, view)
            wanted, notices = np.packbits(found).tobytes(), [*notices, *chosen]
        facts = plan.scale.facts(slide.facts)
        return Surveyed(
            task.number,
            facts.dimensions,
            facts.mpp,
            view,
            tissue,
            wanted,
            self._slides.file(task.path),
            facts.bounds,
            tuple(notice for notice in notices if notice),
        )


def wanted_tiles(found: Surveyed, plan: TilesPlan) -> NDArray[np.bool_] | None:
    """(rows, columns): the wanted tiles of a slide; None for all."""
    if found.wanted is None:
        return None
    rows, columns = plan.shape(found.view.dimensions)
    bits = np.frombuffer(found.wanted, np.uint8)
    return np.unpackbits(bits, count=rows * columns).view(np.bool_).reshape(rows, columns)
