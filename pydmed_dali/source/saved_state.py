"""What a saved state of a source holds, and the refusal of one that belongs to another run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import StateError
from pydmed_dali.plan.saved_values import LARGEST, mapping, text, whole
from pydmed_dali.plan.weights import digest_weights, tissue_areas
from pydmed_dali.slide.open_slide import READERS
from pydmed_dali.slide.stain import METHOD as STAIN_METHOD
from pydmed_dali.source.options import Options

VERSION = 3

_DECISIVE = (
    "chunk",
    "crop",
    "depth",
    "batch_size",
    "level",
    "mpp",
    "magnification",
    "default_mpp",
    "mpp_override",
    "min_tissue",
    "resident",
    "crops_per_chunk",
    "seed",
    "balance",
    "passes",
    "rank",
    "world_size",
    "annotated",
)
"""Options that decide which crops come; the others may differ between a run and its resumption."""


def make_state(
    options: Options,
    dataset: Dataset,
    batches: int,
    places: Mapping[int, int],
    skipped_slides: Mapping[int, str],
    told: Mapping[str, Any],
) -> dict[str, Any]:
    """A state of plain values: dicts, strings and numbers, so that loading one runs no code.

    `places` says of each chunk that was loaded already which of its candidates it took, `told` what
    the training loop said on the way: see `TrainingFeedback.state`. Numbers that are keys are
    written as strings, as JSON would.
    """
    return seal(
        {
            "batches": batches,
            "places": {str(chunk): place for chunk, place in places.items()},
            "skipped_slides": {str(slide): reason for slide, reason in skipped_slides.items()},
            "told": dict(told),
            **_identity(options, dataset),
        }
    )


def check_state(state: Mapping[str, Any], options: Options, dataset: Dataset) -> None:
    """Raise `StateError` where the state is damaged or, saying all that differs, of another run."""
    break_seal(state)
    if "places" not in state:
        raise StateError("this is no state of a BigChunkSource, whose state_dict makes them")
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


def read_progress(
    state: Mapping[str, Any], most: int | None, slides: int
) -> tuple[int, dict[int, int], dict[int, str]]:
    """Read how far a saved run was.

    Args:
        state: as `make_state` made it.
        most: batches of a run; None without end.
        slides: how many the dataset has.

    Returns:
        Batches, places and skipped slides as `make_state` got them.

    Raises:
        StateError: some value is none that a state has, though it fits the digest.
    """
    batches = whole(state.get("batches"), "batches", most=LARGEST if most is None else most)
    places = {
        whole(chunk, "places: a chunk"): whole(place, "places: a place", most=slides + 1)
        for chunk, place in mapping(state.get("places"), "places").items()
    }
    skipped = {
        whole(slide, "skipped_slides: a slide", most=slides - 1): text(reason, "skipped_slides")
        for slide, reason in mapping(state.get("skipped_slides"), "skipped_slides").items()
    }
    return batches, places, skipped


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with the format's version and a digest that tells damage."""
    return {"version": VERSION, **values, "digest": _digest({"version": VERSION, **values})}


def break_seal(state: object) -> None:
    """Raise `StateError` for what `seal` did not make, or what was changed or cut since."""
    if not isinstance(state, Mapping):
        raise StateError(f"a state is a dict, as state_dict makes it, not {type(state).__name__}")
    version = state.get("version")
    if not isinstance(version, int) or version != VERSION:
        raise StateError(
            f"the state has version {state.get('version')!r}, this pydmed-dali writes and reads "
            f"version {VERSION}"
        )
    values = {name: value for name, value in state.items() if name != "digest"}
    try:
        intact = _digest(values) == state.get("digest")
    except (TypeError, ValueError, RecursionError):  # values that no state has
        intact = False
    if not intact:
        raise StateError(
            "the state is damaged: its content does not fit the digest in it; load an older copy"
        )


def _digest(values: Mapping[str, Any]) -> str:
    content = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _identity(options: Options, dataset: Dataset) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _DECISIVE:
        value = getattr(options, name)
        values[name] = str(value) if name in ("chunk", "crop", "depth") else value
    values["weights"] = digest_weights(options.weights)
    if options.balance == "tissue":
        values["tissue areas"] = digest_weights(tissue_areas(dataset))
    stain = options.stain_statistics and f"{options.stain_statistics}, {STAIN_METHOD}"
    found = {"masks": options.tissue_rules, "stain": stain, "pixel": str(options.pixel)}
    return {**values, "dataset": dataset.fingerprint, "readers": READERS, **found}
