"""Whatever is in a state, it is taken or refused in words, and a refused one changes nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.errors import StateError
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.source.saved_state import seal
from tests.faults.resumable import digest
from tests.own_loaders import Walk
from tests.support import NAMES, SMALL_RUN, first

RUNS: dict[str, dict[str, Any]] = {
    "finite": {"passes": 2},
    "weights and messages": {"loader": Walk(), "weights": {"even/slide-0.tif": 3.0}},
}
FOLLOWING = 4
"""Batches behind a loaded state that are compared."""


class Saved(NamedTuple):
    """A run in the middle."""

    options: dict[str, Any]
    state: dict[str, Any]
    following: list[str]
    """Digests of the batches that come behind the state."""


@pytest.fixture(scope="module", params=RUNS)
def saved(request: pytest.FixtureRequest, coordinates: Dataset) -> Saved:
    options = {**SMALL_RUN, "num_workers": 0, **RUNS[request.param]}
    with BigChunkSource(coordinates, **options) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        batches = first(loader, 10**9)
        for number, batch in zip(range(8), batches, strict=False):
            if not source.is_finite and number == 2:
                source.set_weights({"odd/slide-1.tif": 9.0}, after=batch["info"])
                source.send("even/slide-2.tif", {"look": [1, 2]}, after=batch["info"])
                source.send("odd/slide-3.tif", "here", after=batch["info"])
        state = json.loads(json.dumps(loader.state_dict()))
        following = [digest(next(batches)) for _ in range(FOLLOWING)]
    return Saved(options, state, following)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
numbers = st.integers(-2, 20) | st.sampled_from([2**53, 2**63, 2**64, 10**30, -(10**30), 1e308])


def leaves(values: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in nested dicts and lists, but for seals."""
    if way:
        yield way
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(values, dict | list):
        inner = values.items() if isinstance(values, dict) else enumerate(values)
    for name, value in inner:
        if name not in ("digest", "version"):
            yield from leaves(value, (*way, name))


def damage(state: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The state with one or two values gone, renamed or another, sealed so that it fits."""
    for _ in range(data.draw(st.integers(1, 2))):
        ways = list(leaves(state))
        *way, last = data.draw(st.sampled_from(ways))
        inner = state
        for name in way:
            inner = inner[name]
        deed = data.draw(st.sampled_from(["gone", "renamed", "number", "any", "any"]))
        if deed == "gone":
            del inner[last]
        elif deed == "renamed" and isinstance(inner, dict):
            inner[data.draw(st.text(max_size=4) | numbers.map(str))] = inner.pop(last)
        else:
            inner[last] = data.draw(numbers if deed == "number" else json_values)
    for name in ("source", None):
        part = state.get(name) if name else state
        if isinstance(part, dict):
            plain = {n: v for n, v in part.items() if n not in ("version", "digest")}
            sealed = seal(plain)
            part.clear()
            part.update(sealed)
    return state


def test_a_state_changed_anywhere_is_taken_or_refused_in_words(
    coordinates: Dataset, saved: Saved
) -> None:
    with BigChunkSource(coordinates, **saved.options) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        refused = []

        @settings(max_examples=250)
        @given(data=st.data())
        def load(data: st.DataObject) -> None:
            before = loader.state_dict()
            with suppress(StateError):
                loader.load_state_dict(damage(copy.deepcopy(saved.state), data))
                return
            refused.append(loader.state_dict() == before)

        load()
        assert len(refused) > 50 and all(refused), "a refused state changed something"
        loader.load_state_dict(saved.state)
        assert [digest(batch) for batch in first(loader, FOLLOWING)] == saved.following


class Odd:
    """Equal to nothing, and true to nobody."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value",
    [Odd(), [Odd()], {Odd: 1}, b"x", {1: Odd()}],
    ids=["object", "list", "class as a key", "bytes", "number as a key"],
)
def test_values_that_json_does_not_know_are_refused(
    coordinates: Dataset, saved: Saved, value: Any
) -> None:
    with BigChunkSource(coordinates, **saved.options) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        for name in saved.state:
            with pytest.raises(StateError, match="state"):
                loader.load_state_dict({**saved.state, name: value})
        for name in saved.state["source"]:
            inner = {**saved.state["source"], name: value}
            with pytest.raises(StateError, match="state"):
                loader.load_state_dict({**saved.state, "source": inner})
