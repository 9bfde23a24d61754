"""Masks that a user brings along: which image belongs to which slide. Opens none of them."""

from __future__ import annotations

from pathlib import Path

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.loader.beside import Beside, files_beside
from pydmed_dali.loader.tissue import TissuePlan

Masks = Beside
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
    for slide, mask in files_beside(dataset, "masks", masks, MASK_EXTENSIONS).items():
        if mask is not None and mask.is_file():
            found[slide] = mask
        elif mask is not None:
            missing.append(f"{mask} for {slide}")
    if missing:
        raise OptionError(
            f"masks: {len(missing)} of {len(dataset.slides)} slides have no mask; there is no "
            + ", no ".join(missing[:_SHOWN])
            + (", ..." if len(missing) > _SHOWN else "")
        )
    return found
