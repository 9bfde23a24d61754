"""Masks that a user brings along: which image belongs to which slide. Opens none of them."""

from __future__ import annotations

from pathlib import Path

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.pool.companion_files import CompanionFiles, companion_files
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.slide.mask_image import VERSION, MaskFile
from pydmed_dali.slide.tissue_mask import METHOD
from pydmed_dali.slide.tissue_values import GivenValues, TissueValues
from pydmed_dali.worker.tissue_places import TissuePlan

Masks = CompanionFiles
"""A folder, or a function from a slide's path to its mask's."""

MASK_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp")
"""Endings of the images that are looked for in a folder, in this order."""

_SHOWN = 5


def plan_tissue(
    dataset: Dataset,
    min_tissue: float | None,
    masks: Masks | None,
    tissue_values: GivenValues | None = None,
    frame: str = "auto",
) -> TissuePlan | None:
    """What a source's options ask for; None without `min_tissue`.

    Raises `OptionError` for masks that are not there, or would not be used, and for
    `tissue_values` that are none.
    """
    if min_tissue is not None:
        return TissuePlan(min_tissue, find_masks(dataset, masks, tissue_values, frame))
    if masks is not None or tissue_values is not None:
        raise OptionError(
            ("tissue_values" if masks is None else "masks")
            + " are used only together with min_tissue: give that too, e.g. min_tissue=0.5"
        )
    return None


def mask_rules(
    min_tissue: float | None,
    masks: Masks | None,
    tissue_values: GivenValues | None,
    frame: str | None = "auto",
) -> str | None:
    """By which rules tissue is told, in words, for saved runs; None where nobody asks for it.

    Raises `OptionError` for `tissue_values` that are none.
    """
    if not min_tissue:
        return None
    if masks is None:
        return METHOD
    values = "" if tissue_values is None else f" by tissue_values {TissueValues.of(tissue_values)}"
    computed = f", else {METHOD}" if callable(masks) else ""
    of_frame = "" if frame in (None, "auto") else f", frame {frame}"
    return f"own masks {VERSION}{values}{of_frame}{computed}"


def find_masks(
    dataset: Dataset,
    masks: Masks | None,
    tissue_values: GivenValues | None = None,
    frame: str = "auto",
) -> dict[Path, MaskFile]:
    """The mask of each slide, by the slide's path; none without `masks`.

    In a folder, the mask of `a/slide.svs` (below the dataset's folder) is `a/slide.png` or
    `a/slide.svs.png`, or such a file with another of `MASK_EXTENSIONS`; every slide needs one. A
    function may give None, for a slide whose mask shall be computed; it runs in this process.
    Raises `OptionError` for a missing folder or file, naming some of those without, and for
    `tissue_values` without masks.
    """
    if masks is None:
        if tissue_values is not None:
            raise OptionError(
                "tissue_values says what is tissue in masks of your own: give masks too, or leave "
                "it out"
            )
        return {}
    values = None if tissue_values is None else TissueValues.of(tissue_values)
    check_frame(frame)
    found: dict[Path, MaskFile] = {}
    missing: list[str] = []
    for slide, mask in companion_files(dataset, "masks", masks, MASK_EXTENSIONS).items():
        if mask is not None and mask.is_file():
            found[slide] = MaskFile(mask, values, frame)
        elif mask is not None:
            missing.append(f"{mask} for {slide}")
    if missing:
        raise OptionError(
            f"masks: {len(missing)} of {len(dataset.slides)} slides have no mask; there is no "
            + ", no ".join(missing[:_SHOWN])
            + (", ..." if len(missing) > _SHOWN else "")
        )
    return found
