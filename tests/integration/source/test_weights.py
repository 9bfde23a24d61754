"""Weights say how often patients come, from the start or changed on the way; timing does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator
from pydmed_dali.errors import SourceError, StateError
from pydmed_dali.pipelines.classification import classification
from tests.support import NAMES, SMALL_RUN, first

HARD = {"even/slide-0.tif": 8.0, "odd/slide-1.tif": 3.0}
EASY = {"even/slide-0.tif": 0.1}
CHANGES = {5: HARD, 6: EASY, 40: HARD}
"""New weights, by the batch after which they are given."""


def run(
    dataset: Dataset,
    batches: int = 80,
    state: Mapping[str, Any] | None = None,
    changes: Mapping[int, Mapping[str, float]] = CHANGES,
    **changed: Any,
) -> tuple[dict[str, Any], Any]:
    """What the batches up to that number held, and the state behind them, by way of JSON."""
    options = {**SMALL_RUN, "num_workers": 1, **changed}
    with BigChunkSource(dataset, **options) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        begun = 0
        if state is not None:
            loader.load_state_dict(state)
            begun = state["source"]["batches"]
        held = []
        for batch in first(loader, batches - begun):
            held.append(batch)
            number = int(batch["info"][0, InfoColumn.BATCH])
            if number in changes:
                source.set_weights(changes[number], after=batch["info"])
            if len(held) == batches - begun:
                break
        saved = json.loads(json.dumps(loader.state_dict()))
    return {n: np.concatenate([b[n].numpy() for b in held]) for n in NAMES}, saved


@pytest.fixture(scope="module")
def whole(coordinates: Dataset) -> dict[str, Any]:
    return run(coordinates)[0]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(("workers", "depth"), [(0, 2), (3, 1), (2, 5)])
def test_weights_changed_on_the_way_give_the_same_crops(
    coordinates: Dataset, whole: dict[str, Any], workers: int, depth: int
) -> None:
    other, _ = run(coordinates, num_workers=workers, prefetch_depth=depth)
    assert_same(whole, other)


def test_dalis_own_iterator_runs_no_further_ahead_than_is_reckoned_with(
    coordinates: Dataset, whole: dict[str, Any]
) -> None:
    """It asks for one batch more before the first is taken."""
    with BigChunkSource(coordinates, **SMALL_RUN, prefetch_depth=4) as source:
        iterator = DALIGenericIterator([classification(source)], NAMES, size=-1)
        infos = []
        for number, (batch,) in enumerate(iterator):
            infos.append(batch["info"].numpy())
            if number in CHANGES:
                source.set_weights(CHANGES[number], after=batch["info"])
            if number == 79:
                break
    np.testing.assert_array_equal(np.concatenate(infos), whole["info"])


@pytest.mark.parametrize("place", [6, 30, 41])
def test_a_run_resumed_around_a_change_goes_on_byte_for_byte(
    coordinates: Dataset, whole: dict[str, Any], place: int
) -> None:
    """Before a change, between its being given and its acting, and afterwards."""
    _, state = run(coordinates, place, num_workers=2, prefetch_depth=1)
    rest, _ = run(coordinates, state=state, num_workers=0, prefetch_depth=4)
    assert_same({name: whole[name][8 * place :] for name in NAMES}, rest)


def test_the_change_acts_from_the_horizon_on_and_not_before(
    coordinates: Dataset, whole: dict[str, Any]
) -> None:
    plain, _ = run(coordinates, changes={})
    with BigChunkSource(coordinates, **SMALL_RUN) as source:
        horizon = source._engine.scheduler.horizon
    same = (plain["info"] == whole["info"]).all(axis=1)
    chunk = whole["info"][:, InfoColumn.CHUNK]
    assert same[chunk < 5 + horizon].all()
    patients = {
        name: dict(run["info"][:, [InfoColumn.CHUNK, InfoColumn.PATIENT]].tolist())
        for name, run in (("plain", plain), ("whole", whole))
    }
    assert any(
        patients["plain"][c] != patients["whole"][c] for c in patients["plain"] if c >= 5 + horizon
    )


def test_visits_follow_the_weights_before_and_after_a_change(coordinates: Dataset) -> None:
    """As many as the weights say, to within two visits."""
    dataset, options = coordinates, {**SMALL_RUN, "num_workers": 0, "chunk_size": 64}
    with BigChunkSource(dataset, **options, weights=HARD) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        patient: dict[int, int] = {}
        for batch in first(loader, 300):
            info = batch["info"].numpy()
            patient.update(
                zip(
                    info[:, InfoColumn.CHUNK].tolist(),
                    info[:, InfoColumn.PATIENT].tolist(),
                    strict=True,
                )
            )
            if int(info[0, InfoColumn.BATCH]) == 80:
                source.set_weights(EASY, after=batch["info"])
        change = 80 + source._engine.scheduler.horizon
    for begin, end, weights in ((0, change, HARD), (change, 300, EASY)):
        given = np.array([weights.get(p.id, 1.0) for p in dataset.patients])
        counts = Counter(patient[chunk] for chunk in range(begin, end))
        expected = (end - begin) * given / given.sum()
        assert (abs(np.array([counts[p] for p in range(6)]) - expected) < 2).all()


def test_two_ranks_follow_a_change_together(coordinates: Dataset) -> None:
    """They read disjoint chunks, which together follow the weights from one visit on."""
    options: dict[str, Any] = {"num_workers": 0, "chunk_size": 64, "world_size": 2}
    runs = [run(coordinates, 150, changes={5: HARD}, rank=n, **options)[0]["info"] for n in (0, 1)]
    chunks = [dict(info[:, [InfoColumn.CHUNK, InfoColumn.PATIENT]].tolist()) for info in runs]
    assert not chunks[0].keys() & chunks[1].keys()
    with BigChunkSource(coordinates, **SMALL_RUN) as source:
        change = 2 * (5 + source._engine.scheduler.horizon)
    both = chunks[0] | chunks[1]
    counts = Counter(both[chunk] for chunk in range(change, 300))
    given = np.array([HARD.get(patient.id, 1.0) for patient in coordinates.patients])
    expected = (300 - change) * given / given.sum()
    assert (abs(np.array([counts[p] for p in range(6)]) - expected) < 2).all()


def test_a_finite_source_has_weights_that_never_change(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **SMALL_RUN, passes=2, weights=HARD) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        runs = [list(loader) for _ in range(2)]
        chunks = [np.concatenate([b["info"].numpy()[:, :-1] for b in run]) for run in runs]
        np.testing.assert_array_equal(chunks[0], chunks[1])
        counts = Counter(chunks[0][:, InfoColumn.PATIENT].tolist())
        assert counts[0] in (8 * 6, 8 * 7)
        with pytest.raises(SourceError, match="set_weights is for endless sources"):
            source.set_weights(EASY, after=runs[0][0]["info"])


@pytest.mark.parametrize(("workers", "depth"), [(0, 1), (3, 4)])
def test_what_is_said_too_late_is_refused(coordinates: Dataset, workers: int, depth: int) -> None:
    """After each batch but the latest one, whatever is begun already."""
    options = {**SMALL_RUN, "num_workers": workers, "prefetch_depth": depth}
    with BigChunkSource(coordinates, **options) as source:
        pipeline = classification(source)
        batches = list(SmallChunkIterator(pipeline, NAMES, batches_per_epoch=30))
        with pytest.raises(SourceError, match="batch 28, but batch 29 was already delivered"):
            source.set_weights(EASY, after=batches[28]["info"])
        source.set_weights(EASY, after=batches[29]["info"])


def test_a_state_of_other_weights_is_refused(coordinates: Dataset) -> None:
    _, state = run(coordinates, 3, weights=HARD)
    with pytest.raises(StateError, match=r"weights: saved '[0-9a-f]{16}', here None"):
        run(coordinates, state=state)


def test_a_prefetch_depth_beyond_the_saved_horizon_is_refused(coordinates: Dataset) -> None:
    _, state = run(coordinates, 6)
    with pytest.raises(StateError, match="lower prefetch_depth"):
        run(coordinates, state=state, prefetch_depth=12)
