"""What a saved state of a source holds, and the refusal of one that belongs to another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydmed_dali.dali.options import Options
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import StateError
from pydmed_dali.slide.open_slide import READERS
from pydmed_dali.slide.tissue_threshold import METHOD

VERSION = 1

_DECISIVE = (
    "chunk",
    "crop",
    "batch_size",
    "level",
    "mpp",
    "min_tissue",
    "resident",
    "crops_per_chunk",
    "seed",
    "passes",
    "rank",
    "world_size",
)
"""Options that decide which crops come; the others may differ between a run and its resumption."""


def make_state(
    options: Options,
    dataset: Dataset,
    batches: int,
    places: Mapping[int, int],
    skipped_slides: Mapping[int, str],
) -> dict[str, Any]:
    """A state of plain values: dicts, strings and numbers, so that loading one runs no code.

    `places` says of each chunk that was loaded already which of its candidates it took.
    """
    return {
        "version": VERSION,
        "batches": batches,
        "places": dict(places),
        "skipped_slides": dict(skipped_slides),
        **_identity(options, dataset),
    }


def check_state(state: Mapping[str, Any], options: Options, dataset: Dataset) -> None:
    """Raise `StateError`, saying all that differs, where the state is not of this run."""
    if state.get("version") != VERSION:
        raise StateError(
            f"the state has version {state.get('version')!r}, this pydmed-dali writes and reads "
            f"version {VERSION}"
        )
    differing = [
        f"{name}: saved {state.get(name)!r}, here {value!r}"
        for name, value in _identity(options, dataset).items()
        if state.get(name) != value
    ]
    if differing:
        raise StateError(
            "the state belongs to another run; make the source with the saved values. "
            "What differs: " + "; ".join(differing)
        )


def _identity(options: Options, dataset: Dataset) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _DECISIVE:
        value = getattr(options, name)
        values[name] = str(value) if name in ("chunk", "crop") else value
    masks = "own masks" if options.own_masks else METHOD if options.min_tissue else None
    return {**values, "dataset": dataset.fingerprint, "readers": READERS, "masks": masks}
