"""What a worker finds of a slide without loading anything: see `survey`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.file_identity import FileIdentity
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.slide import Slide
from pydmed_dali.worker.messages import Job, Surveyed, SurveyPlan
from pydmed_dali.worker.tile_filter import TileFilter, TilesPlan
from pydmed_dali.worker.tissue_places import find_mask


class SlideSurvey:
    """Looks at slides, one after the other."""

    def __init__(self, plan: SurveyPlan, scale: Scale, cache: Cache) -> None:
        self._plan, self._scale, self._cache = plan, scale, cache
        tiles = plan.tiles
        self._wanted = None if tiles is None else TileFilter(tiles, cache, scale)

    def look(self, job: Job, slide: Slide, file: FileIdentity | None) -> Surveyed:
        """Of the job's slide, which is this file; raises what is wrong with it."""
        view = self._scale.view(slide.facts, job.path)
        tissue, notices = None, list[str]()
        if self._plan.masks is not None:
            own = self._plan.masks.get(job.path)
            mask = find_mask(job.path, slide, own, self._cache, self._scale)
            tissue, notices = mask.share, [mask.notice]
        wanted = None
        tiles = self._plan.tiles
        if self._wanted is not None and tiles is not None and not tiles.wants_all(view):
            found, tissue, told = self._wanted.find(job.path, slide, view)
            wanted, notices = np.packbits(found).tobytes(), [*notices, *told]
        facts = self._scale.facts(slide.facts)
        return Surveyed(
            job.chunk,
            facts.dimensions,
            facts.mpp,
            view,
            tissue,
            wanted,
            file,
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
