"""Which tiles of a slide are wanted: those with enough tissue, or in an annotated region."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import SlideMaskError
from pydmed_dali.geometry import Size
from pydmed_dali.plan.tile_grid import scanned_tiles, tile_count, tissue_shares
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import View
from pydmed_dali.text import shorten_list
from pydmed_dali.worker.annotation_plan import AnnotationPlan
from pydmed_dali.worker.tissue_places import TissuePlan, find_mask

if TYPE_CHECKING:
    from pydmed_dali.worker.annotation_finder import AnnotationFinder


@dataclass(frozen=True, slots=True)
class TilesPlan:
    """What a source of tiles wants of every slide. In view pixels."""

    tile: Size
    stride: Size
    tissue: TissuePlan | None
    """How much tissue a tile must have; None for any."""
    annotated: AnnotationPlan | None
    """In one of its classes a tile must have its centre; None for anywhere."""

    def wants_all(self, view: View) -> bool:
        """Whether no tile of a slide is left out."""
        return self.tissue is None and self.annotated is None and view.scanned is None

    def shape(self, extent: Size) -> tuple[int, int]:
        """Rows and columns of the tiles of a slide."""
        return (
            tile_count(extent.height, self.tile.height, self.stride.height),
            tile_count(extent.width, self.tile.width, self.stride.width),
        )


class TileFilter:
    """Finds the wanted tiles of slides. What it costs is the tissue mask, which the cache keeps."""

    def __init__(self, plan: TilesPlan, cache: Cache, scale: Scale) -> None:
        self._plan, self._cache, self._scale = plan, cache, scale
        self._annotations: AnnotationFinder | None = None
        if plan.annotated is not None:
            # Here, because it imports what most runs do not need, and workers are to start soon.
            from pydmed_dali.worker.annotation_finder import AnnotationFinder

            self._annotations = AnnotationFinder(plan.annotated, plan.tile, cache)

    def find(
        self, path: Path, slide: Slide, view: View
    ) -> tuple[NDArray[np.bool_], float | None, list[str]]:
        """(rows, columns): whether each tile is wanted; the part of the slide that is tissue, None
        where that decides nothing; and what was chosen, for the log.

        Raises `SlideMaskError` where none is, and where a mask or an annotation file cannot be
        used; `SlideReadError` where the slide's overview cannot be read.
        """
        plan = self._plan
        wanted = np.ones(plan.shape(view.dimensions), np.bool_)
        reasons, notices, tissue = list[str](), list[str](), None
        if view.scanned is not None:
            wanted = scanned_tiles(view.scanned, plan.tile, plan.stride, wanted.shape)
            reasons.append("something of what was scanned")
        if plan.tissue is not None:
            own = plan.tissue.masks.get(path)
            mask = find_mask(path, slide, own, self._cache, self._scale)
            tissue = mask.share
            shares = tissue_shares(mask.pixels, view.dimensions, plan.tile, plan.stride)
            # A mask that is all tissue has shares that miss 1 by the rounding of sums.
            wanted &= shares >= plan.tissue.min_tissue - 1e-9
            notices.append(mask.notice)
            by = "" if own is None else f" by the mask {own}"
            reasons.append(
                f"min_tissue={plan.tissue.min_tissue:g} (tissue covers {mask.share:.1%} of the "
                f"slide{by})"
            )
        if self._annotations is not None and plan.annotated is not None:
            annotated = self._annotations.find(path, slide.facts, view)
            notices.append(annotated.notice)
            wanted &= annotated.at_centres(plan.tile, plan.stride, wanted.shape) > 0
            reasons.append(f"its centre in {shorten_list(plan.annotated.classes)}")
        if not wanted.any():
            raise SlideMaskError(f"{path}: no tile of {plan.tile} has {' and '.join(reasons)}")
        return wanted, tissue, notices
