"""Which places of a slide are eligible: computed where it is needed, kept for the next time."""

from __future__ import annotations

import io
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pydmed_dali.errors import SlideMaskError
from pydmed_dali.geometry import Size
from pydmed_dali.plan.eligible import VERSION, Eligible, eligible_places
from pydmed_dali.slide.cache import Cache, file_key
from pydmed_dali.slide.mask_image import VERSION as MASK_VERSION
from pydmed_dali.slide.mask_image import MaskFile
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.tissue_mask import METHOD, TissueMask, compute_mask, mask_size, read_mask
from pydmed_dali.slide.view import View

logger = logging.getLogger("pydmed_dali.worker")

_NEXT_TO_NOTHING = 0.005  # of a slide: a needle biopsy covers more of what is scanned with it
_MOST_KNOWN = 8  # slides of which a process holds the eligible places: up to 4 MB each


@dataclass(frozen=True, slots=True)
class TissuePlan:
    """What a source wants to be on its crops."""

    min_tissue: float
    """Part of a crop that must be tissue, above 0 and at most 1."""
    masks: Mapping[Path, MaskFile] = field(default_factory=dict)
    """The user's own mask, by the slide's path; of other slides it is computed."""


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """What is known of the tissue of one slide."""

    share: float
    """Part of the slide's area that is tissue, 0 to 1."""
    eligible: Eligible
    """Where crops may start, in view pixels."""
    notice: str = ""
    """What was chosen when a mask of the user's was read, for the log; it names no slide."""

    def to_bytes(self) -> bytes:
        """The same, as `from_bytes` reads it."""
        places, file = self.eligible, io.BytesIO()
        bits = np.packbits(places.blocks)
        np.savez_compressed(
            file,
            share=self.share,
            rows=places.rows,
            columns=places.columns,
            bits=bits,
            notice=np.array(self.notice),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Tissue:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            rows, columns = arrays["rows"], arrays["columns"]
            shape = (len(rows) - 1, len(columns) - 1)
            bits = np.unpackbits(arrays["bits"], count=shape[0] * shape[1])
            blocks = bits.view(np.bool_).reshape(shape)
            places = Eligible.of(rows, columns, blocks)
            return cls(float(arrays["share"]), places, str(arrays["notice"]))


class TissueFinder:
    """Finds the eligible places of slides, one after the other; of the last few it keeps them."""

    def __init__(self, plan: TissuePlan, crop: Size, cache: Cache, scale: Scale) -> None:
        self._plan, self._crop, self._cache, self._scale = plan, crop, cache, scale
        self._known: OrderedDict[Path, Tissue] = OrderedDict()

    def find(self, path: Path, slide: Slide, view: View) -> Tissue:
        """The tissue of the slide at `path`, and where in the view a crop has enough of it.

        Raises `SlideMaskError` where that is nowhere, or the user's mask cannot be used, and
        `SlideReadError` where the slide's overview cannot be read.
        """
        tissue = self._known.pop(path, None) or self._kept(path, slide, view)
        if not tissue.eligible.count:
            raise self._too_little(path, tissue.share)
        self._known[path] = tissue
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return tissue

    def _kept(self, path: Path, slide: Slide, view: View) -> Tissue:
        """From the cache, or computed and put there. The key tells all that the result is made of:
        of a mask of the user's, its file.
        """
        own = self._plan.masks.get(path)
        source = mask_source(slide, own, self._scale)
        parts = (
            source,
            slide.facts.bounds,
            view.dimensions,
            self._crop,
            self._plan.min_tissue,
            METHOD,
            VERSION,
        )
        key = None if source is None else file_key(path, "eligible", *parts)
        if (data := self._cache.get(key)) is not None:
            return Tissue.from_bytes(data)
        mask = find_mask(path, slide, own, self._cache, self._scale)
        places = tissue_places(mask, view, self._crop, self._plan.min_tissue)
        tissue = Tissue(mask.share, places, mask.notice)
        self._cache.put(key, tissue.to_bytes())
        return tissue

    def _too_little(self, path: Path, share: float) -> SlideMaskError:
        own = self._plan.masks.get(path)
        by = "" if own is None else f" by the mask {own}"
        return SlideMaskError(
            f"{path}: no crop of {self._crop} has min_tissue={self._plan.min_tissue:g}: tissue "
            f"covers {share:.1%} of the slide{by}; lower min_tissue, give a mask of your own, or "
            "look at it by `pydmed-dali preview`"
        )


def tissue_places(mask: TissueMask, view: View, crop: Size, min_tissue: float) -> Eligible:
    """Where a crop of a view has at least `min_tissue`, and lies on what was scanned."""
    places = eligible_places(mask.pixels, view.dimensions, crop, min_tissue)
    return places if view.scanned is None else places.inside(view.scanned, view.dimensions, crop)


def warn_of_little_tissue(path: Path, share: float) -> None:
    """Say so where a mask finds next to nothing, which is seldom what the user meant."""
    if 0 < share < _NEXT_TO_NOTHING:
        logger.warning(
            "%s: only %.2g%% of the slide is tissue by its mask, so all its crops are of a few "
            "places; look at it by `pydmed-dali preview`. Give a mask of your own (masks) if "
            "tissue is missed, else leave the slide out",
            path,
            100 * share,
        )


def mask_key(mask: MaskFile) -> str | None:
    """What tells a mask of the user's, as it is read, from others; None where there is no file."""
    return file_key(mask.path, "mask", MASK_VERSION, str(mask.values), mask.frame)


def mask_source(slide: Slide, own: MaskFile | None, scale: Scale) -> str | None:
    """What the mask of `find_mask` is made of; None where the user's has no file."""
    if own is not None:
        return mask_key(own)
    return f"{reader_of(slide)}, {mask_size(scale.facts(slide.facts))}"


def find_mask(
    path: Path, slide: Slide, own: MaskFile | None, cache: Cache, scale: Scale | None = None
) -> TissueMask:
    """The user's `own` mask of the slide at `path`, else the computed one, if it can be from the
    cache. The size of its pixels goes by the resolution that counts with `scale`.
    """
    if own is not None:
        return read_mask(own, path, slide.facts)
    scale = scale or Scale()
    key = file_key(path, "tissue mask", mask_source(slide, None, scale), METHOD)
    if (data := cache.get(key)) is not None:
        return TissueMask.from_bytes(data)
    mask = compute_mask(slide, mask_size(scale.facts(slide.facts)))
    cache.put(key, mask.to_bytes())
    return mask


def reader_of(slide: Slide) -> str:
    """What the pixels come from: two readers may differ, and so does what they fill in."""
    kind, facts = type(slide), slide.facts
    name = f"{kind.__module__}.{kind.__qualname__}, {facts.reader}"
    return f"{name}, {facts.bounds}, {facts.background}"
