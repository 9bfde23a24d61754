"""How the slides of a source are stained: found where it is needed, kept for the next time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydmed_dali.errors import OptionError
from pydmed_dali.slide.cache import Cache, cache_folder, file_key
from pydmed_dali.slide.mask_image import MaskFile
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.stain import METHOD, METHODS, Stain, find_stain, stain_from_dict
from pydmed_dali.slide.stain_sample import sample_tissue
from pydmed_dali.slide.tissue_mask import METHOD as MASK_METHOD
from pydmed_dali.slide.tissue_values import GivenValues
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.tissue_places import find_mask, mask_source, reader_of


@dataclass(frozen=True, slots=True)
class StainPlan:
    """What a source wants to know of its slides' stain."""

    method: str
    """`macenko` or `reinhard`."""
    masks: Mapping[Path, MaskFile] = field(default_factory=dict)
    """The user's own mask of the tissue, by the slide's path; of other slides it is computed."""


class StainFinder:
    """Finds the stain of slides; it is a handful of numbers, so it keeps all of them."""

    def __init__(self, plan: StainPlan, cache: Cache, scale: Scale) -> None:
        self._plan, self._cache, self._scale = plan, cache, scale
        self._known: dict[Path, Stain | None] = {}

    def find(self, path: Path, slide: Slide) -> Stain | None:
        """The stain of the slide at `path`, of its whole tissue; None where it has none to find.

        It depends on the file alone, and on the mask, so it is the same for every process. Raises
        `SlideReadError` where the slide cannot be read, `SlideMaskError` where the mask cannot.
        """
        if path not in self._known:
            self._known[path] = self._kept(path, slide)
        return self._known[path]

    def _kept(self, path: Path, slide: Slide) -> Stain | None:
        """From the cache, or found and put there."""
        own = self._plan.masks.get(path)
        source = mask_source(slide, own, self._scale)
        parts = (self._plan.method, METHOD, reader_of(slide), source, MASK_METHOD)
        key = None if source is None else file_key(path, "stain", *parts)
        if (data := self._cache.get(key)) is not None:
            return stain_from_dict(self._plan.method, json.loads(data))
        mask = find_mask(path, slide, own, self._cache, self._scale)
        stain = find_stain(self._plan.method, sample_tissue(slide, mask))
        self._cache.put(key, json.dumps(None if stain is None else asdict(stain)).encode())
        return stain


def measure_stain(
    path: str | os.PathLike[str],
    method: str,
    *,
    mask: str | os.PathLike[str] | None = None,
    tissue_values: GivenValues | None = None,
    frame: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Stain:
    """The stain of one slide, to be the target of others: a `MacenkoStain` or a `ReinhardStain`.

    `method` is `macenko` or `reinhard`; `mask` an image of the slide's tissue, else it is computed;
    `tissue_values` says which of the image's values are tissue, and `frame` whether it is of the
    whole slide or of what was scanned, as for `BigChunkSource`. Raises
    `OptionError` for a slide without stained tissue, and what opening and reading raise.
    """
    if method not in METHODS:
        raise OptionError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    path, loader = Path(path), BigChunkLoader()
    loader.cache = Cache(cache_folder(cache_dir))
    slide = loader.open_slide(path)
    try:
        masks = {} if mask is None else {path: MaskFile.of(Path(mask), tissue_values, frame)}
        stain = StainFinder(StainPlan(method, masks), loader.cache, Scale()).find(path, slide)
    finally:
        slide.close()
    if stain is None:
        raise OptionError(
            f"{path}: it has no stain to be a target by the method {method!r}: too little of it is "
            "tissue on a light ground, or all is of one colour; take another slide, or give numbers"
        )
    return stain
