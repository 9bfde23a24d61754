"""Masks that a user brings along: which image belongs to which slide. Opens none of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pydmed_dali.dataset import Dataset, Record
from pydmed_dali.errors import OptionError
from pydmed_dali.loader.tissue import TissuePlan

Masks = str | os.PathLike[str] | Callable[[Path], str | os.PathLike[str] | None]
"""A folder, or a function from a slide's path to its mask's."""

MASK_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp")
"""Endings of the images that are looked for in a folder, in this order."""

_SHOWN = 5


def plan_tissue(
    dataset: Dataset, min_tissue: float | None, masks: Masks | None
) -> TissuePlan | None:
    """What a source's options ask for; None without `min_tissue`.

    Raises `OptionError` for masks that are not there, or would not be used.
    """
    if min_tissue is not None:
        own = {} if masks is None else find_masks(dataset, masks)
        return TissuePlan(min_tissue, own)
    if masks is not None:
        raise OptionError(
            "masks are used only together with min_tissue: give that too, e.g. min_tissue=0.5"
        )
    return None


def find_masks(dataset: Dataset, masks: Masks) -> dict[Path, Path]:
    """The mask of each slide, by the slide's path.

    In a folder, the mask of `a/slide.svs` (below the dataset's folder) is `a/slide.png` or
    `a/slide.svs.png`, or such a file with another of `MASK_EXTENSIONS`; every slide needs one. A
    function may give None, for a slide whose mask shall be computed; it runs in this process.
    Raises `OptionError` for a missing folder or file, naming some of those without.
    """
    found: dict[Path, Path] = {}
    missing: list[str] = []
    for record in dataset.slides:
        mask = _asked(masks, record.path) if callable(masks) else _looked_up(Path(masks), record)
        if mask is not None and mask.is_file():
            found[record.path] = mask
        elif mask is not None:
            missing.append(f"{mask} for {record.path}")
    if missing:
        raise OptionError(
            f"masks: {len(missing)} of {len(dataset.slides)} slides have no mask; there is no "
            + ", no ".join(missing[:_SHOWN])
            + (", ..." if len(missing) > _SHOWN else "")
        )
    return found


def _looked_up(folder: Path, record: Record) -> Path:
    """The first that exists; else the name that was looked for first."""
    if not folder.is_dir():
        raise OptionError(f"masks={str(folder)!r} is no folder; give one, or a function")
    place = folder.absolute() / record.relative
    names = [
        name
        for ending in MASK_EXTENSIONS
        for name in (place.with_suffix(ending), place.with_name(place.name + ending))
        if name != record.path
    ]
    return next((name for name in names if name.is_file()), names[0])


def _asked(function: Callable[[Path], str | os.PathLike[str] | None], slide: Path) -> Path | None:
    try:
        mask = function(slide)
        return None if mask is None else Path(mask).absolute()
    except Exception as error:
        raise OptionError(f"masks({str(slide)!r}) raised {error!r}") from error
