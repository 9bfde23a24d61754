"""Weights of patients, as a user gives them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.text import shorten_list


def read_weights(dataset: Dataset, weights: Mapping[str, float]) -> tuple[float, ...]:
    """The weight of each patient in the dataset's order; those that are not named have 1.

    Raises `OptionError` for names that no patient has, and for weights that are not positive.
    """
    if not isinstance(weights, Mapping):
        raise OptionError(
            f"weights must be a mapping from patients' ids to positive numbers, not {weights!r}"
        )
    known = {patient.id for patient in dataset.patients}
    unknown = [repr(name) for name in weights if name not in known]
    if unknown:
        raise OptionError(
            f"weights names patients that are not in the dataset: {shorten_list(unknown)}; a "
            f"patient's id is like {dataset.patients[0].id!r}"
        )
    for name, value in weights.items():
        if not _is_weight(value):
            raise OptionError(
                f"the weight of patient {name!r} must be a positive number, not {value!r}; to "
                "exclude a patient, remove the patient from the dataset"
            )
    return tuple(float(weights.get(patient.id, 1.0)) for patient in dataset.patients)


def tissue_areas(dataset: Dataset) -> tuple[float, ...]:
    """The tissue area of each slide: in square micrometres, or, where the resolution of some slide
    with tissue is unknown, in level-0 pixels.

    Raises `OptionError` where `measure_tissue` was not called, and where there is no tissue at all.
    """
    areas = [record.tissue for record in dataset.slides]
    known = [area for area in areas if area is not None]
    if len(known) < len(areas):
        raise OptionError(
            f"balance='tissue' needs to know how much tissue each slide has, and of "
            f"{len(areas) - len(known)} of {len(areas)} that is not known: call dataset = "
            "pydmed_dali.measure_tissue(dataset) first, which computes their masks"
        )
    if not any(area.pixels for area in known):
        raise OptionError(
            f"balance='tissue': none of the {len(areas)} slides of this dataset, or of this class, "
            "has tissue; leave them out, or give measure_tissue masks of your own"
        )
    if any(area.mpp is None and area.pixels for area in known):
        return tuple(area.pixels for area in known)
    return tuple(area.pixels * math.prod(area.mpp or (0.0,)) for area in known)


def digest_weights(weights: tuple[float, ...] | None) -> str | None:
    """What tells two choices of weights apart, for saved states."""
    if weights is None:
        return None
    return hashlib.blake2b(repr(weights).encode(), digest_size=8).hexdigest()


def _is_weight(value: object) -> bool:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str) and math.isfinite(number) and number > 0
