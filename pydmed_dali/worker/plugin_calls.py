"""Calls a loader's own `place_chunk` and `place_crops`, and refuses what they must not return."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from pydmed_dali.errors import SlideError, SlideMaskError, UserCodeError
from pydmed_dali.geometry import Point
from pydmed_dali.plan.placement import Placement, Positions
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import LoadChunk
from pydmed_dali.worker.visit import Visit

MOST_STATE = 4096
"""Characters of a patient's state, as JSON: it travels with every visit."""

_OUR_READER = BigChunkLoader.extract_bigchunk

_Result = TypeVar("_Result")


def has_policy(loader: BigChunkLoader) -> bool:
    """Whether the loader chooses where BigChunks lie."""
    return type(loader).place_chunk is not BigChunkLoader.place_chunk


def has_own_reader(loader: BigChunkLoader) -> bool:
    """Whether the loader reads chunks by code of its own, be it a method that was put in place of
    ours.
    """
    return getattr(loader.extract_bigchunk, "__func__", None) is not _OUR_READER


def place_chunk(
    loader: BigChunkLoader, visit: Visit, job: LoadChunk
) -> tuple[Placement, str | None]:
    """Where the loader wants the BigChunk, and the patient's new state as JSON.

    It is not asked where a stand-in is read: see `BigChunkLoader.place_chunk`.
    """
    if job.candidate.attempt or not has_policy(loader):
        return visit.placement(visit.planned), None
    result = _call(visit, "place_chunk", lambda: loader.place_chunk(visit))
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Point):
        raise _refusal(visit, "place_chunk", f"returned {result!r}; it must return (Point, state)")
    origin, state = result
    last = visit.last_origin
    if not (_is_within(origin.x, last.x) and _is_within(origin.y, last.y)):
        raise _refusal(
            visit,
            "place_chunk",
            f"returned {origin}; on this slide of {visit.view.dimensions} a BigChunk's corner lies "
            f"from Point(x=0, y=0) to {last}, in whole pixels",
        )
    origin = Point(int(origin.x), int(origin.y))
    if not visit.places(origin):
        raise SlideMaskError(
            f"{visit.slide.path}: place_chunk returned {origin}, where no crop has enough tissue "
            "(or lies in the class it is drawn for); visit.places tells in how many places of a "
            "BigChunk one does"
        )
    return visit.placement(origin), _state_text(visit, state)


def place_crops(
    loader: BigChunkLoader, visit: Visit, placement: Placement, count: int
) -> Positions:
    """Where the loader wants the crops in the BigChunk: (count, 2) int32, (y, x)."""
    origin = placement.origin
    result = _call(visit, "place_crops", lambda: loader.place_crops(visit, origin, count))
    crops = np.asarray(result)
    if crops.shape != (count, 2) or not np.issubdtype(crops.dtype, np.integer):
        raise _refusal(
            visit,
            "place_crops",
            f"returned an array of shape {crops.shape} and {crops.dtype}; it must return "
            f"({count}, 2) integers, (y, x) of each crop from the BigChunk's corner on",
        )
    crop, size = visit.crop_size, placement.size
    most = np.array((max(size.height - crop.height, 0), max(size.width - crop.width, 0)))
    (wrong,) = np.nonzero(((crops < 0) | (crops > most)).any(axis=1))
    if len(wrong):
        y, x = crops[wrong[0]].tolist()
        raise _refusal(
            visit,
            "place_crops",
            f"returned a crop at y={y}, x={x}; in this BigChunk, of which {size} lie on the slide, "
            f"y is 0..{most[0]} and x is 0..{most[1]}",
        )
    return crops.astype(np.int32)


def _call(visit: Visit, name: str, call: Callable[[], _Result]) -> _Result:
    """What own code returns; a slide that cannot be read is the slide's fault, all else its own."""
    try:
        return call()
    except SlideError:
        raise
    except Exception as error:
        raise _refusal(visit, name, f"raised {error!r}") from error


def _state_text(visit: Visit, state: Any) -> str | None:
    if state is None:
        return None
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _refusal(
            visit, "place_chunk", f"returned a state that JSON cannot hold ({error}): {state!r}"
        ) from error
    if len(text) > MOST_STATE:
        raise _refusal(
            visit,
            "place_chunk",
            f"returned a state of {len(text):,} characters as JSON; it travels with every visit, so"
            f" {MOST_STATE:,} are the most",
        )
    return text


def _is_within(value: object, last: int) -> bool:
    return isinstance(value, int | np.integer) and 0 <= int(value) <= last


def _refusal(visit: Visit, name: str, what: str) -> UserCodeError:
    return UserCodeError(
        f"{name} of the loader, for patient {visit.patient!r} on {visit.slide.path}, {what}"
    )
