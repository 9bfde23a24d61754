"""Epochs, ends and states of the two iterators over a source."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator
from pydmed_dali.errors import OptionError, SourceError, StateError
from pydmed_dali.pipelines.basic import basic
from tests.support import NAMES, first, sum_up, take

OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 32,
    "batch_size": 24,
    "resident": 3,
    "crops_per_chunk": 20,
    "num_workers": 1,
}


def iterate(source: BigChunkSource, **options: Any) -> SmallChunkIterator:
    return SmallChunkIterator(basic(source), NAMES, **options)


def plain(source: BigChunkSource) -> Any:
    return DALIGenericIterator([basic(source)], NAMES, size=-1)


def test_an_endless_epoch_visits_every_patient_about_once(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source)
        assert len(loader) == source.batches_per_epoch == 5  # 6 patients x 20 crops / 24
        clock = [[int(b["info"][0, InfoColumn.BATCH]) for b in loader] for _ in range(3)]
    assert clock == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]


def test_break_keeps_the_clock_and_the_next_for_is_a_whole_epoch(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source, batches_per_epoch=4)
        next(iter(loader))
        clock = [int(b["info"][0, InfoColumn.BATCH]) for b in loader]
    assert clock == [1, 2, 3, 4]


def test_a_finite_epoch_ends_with_what_is_left_and_can_be_repeated(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **{**OPTIONS, "batch_size": 50}, passes=1) as source:
        loader = iterate(source)
        assert len(loader) == 3
        runs = [list(loader) for _ in range(3)]
    assert [[len(b["image"]) for b in run] for run in runs] == [[50, 50, 20]] * 3
    for run in runs[1:]:
        np.testing.assert_array_equal(sum_up(run)["image"], sum_up(runs[0])["image"])
    assert (sum_up(runs[0])["info"][:, InfoColumn.VALID] == 1).all()


@pytest.mark.parametrize("used", [1, 2, 3, 4])
def test_break_in_a_finite_epoch_begins_it_anew(coordinates: Dataset, used: int) -> None:
    with BigChunkSource(coordinates, **OPTIONS, passes=1) as source:
        loader = iterate(source)
        for number, _ in enumerate(loader, 1):
            if number == used:
                break
        again = sum_up(list(loader))
    with BigChunkSource(coordinates, **OPTIONS, passes=1) as source:
        np.testing.assert_array_equal(again["image"], sum_up(list(iterate(source)))["image"])


def test_plain_dali_over_a_finite_source(coordinates: Dataset) -> None:
    """DALI's own iterator: whole batches, the copies marked in `info`, reset between epochs."""
    with BigChunkSource(coordinates, **OPTIONS, passes=1) as source:
        iterator, lengths, valid = plain(source), [], 0
        for _ in range(3):
            batches = [batch for (batch,) in iterator]
            lengths.append(len(batches))
            valid += sum(int(b["info"][:, InfoColumn.VALID].sum()) for b in batches)
            iterator.reset()
    assert lengths == [5, 5, 5]
    assert valid == 3 * 6 * 20


def test_plain_dali_over_an_endless_source_equals_ours(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        batches = [batch for (batch,), _ in zip(plain(source), range(12), strict=False)]
    with BigChunkSource(coordinates, **OPTIONS) as source:
        np.testing.assert_array_equal(sum_up(batches)["image"], sum_up(take(source, 12))["image"])


def test_training_and_validation_at_once(coordinates: Dataset) -> None:
    """Two sources and two pipelines in one process, their batches interleaved."""
    with (
        BigChunkSource(coordinates, **OPTIONS, seed=1) as training,
        BigChunkSource(coordinates, **OPTIONS, seed=2, passes=1) as validation,
    ):
        train, validate = iterate(training), iterate(validation)
        mixed: list[Any] = []
        runs: list[Any] = []
        for number, batch in enumerate(first(train, 12)):
            mixed.append(batch)
            if number % 4 == 3:
                runs.append(sum_up(list(validate)))
    with BigChunkSource(coordinates, **OPTIONS, seed=1) as alone:
        np.testing.assert_array_equal(sum_up(mixed)["image"], sum_up(take(alone, 12))["image"])
    assert all((run["info"] == runs[0]["info"]).all() for run in runs)


@pytest.mark.parametrize("passes", [None, 2])
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_resumed_run_goes_on_with_the_next_batch(
    coordinates: Dataset, passes: int | None, stop: int
) -> None:
    with BigChunkSource(coordinates, **OPTIONS, passes=passes) as source:
        loader = iterate(source)
        whole = list(first(loader, 18))
    with BigChunkSource(coordinates, **OPTIONS, passes=passes) as source:
        loader = iterate(source)
        for number, _ in enumerate(loader, 1):
            if number == min(stop, len(loader)):
                state = json.loads(json.dumps(loader.state_dict()))
                break
    changed = {**OPTIONS, "num_workers": 0, "prefetch_depth": 3}
    with BigChunkSource(coordinates, **changed, passes=passes) as source:
        loader = iterate(source)
        loader.load_state_dict(state)
        rest = list(first(loader, 18 - number))
    assert_equal_batches(rest, whole[number:])


def assert_equal_batches(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("passes", [None, 1])
def test_a_state_taken_after_break_resumes_within_the_epoch(
    coordinates: Dataset, passes: int | None
) -> None:
    with BigChunkSource(coordinates, **OPTIONS, passes=passes) as source:
        whole = list(iterate(source))
    with BigChunkSource(coordinates, **OPTIONS, passes=passes) as source:
        loader = iterate(source)
        for number, _ in enumerate(loader, 1):
            if number == 2:
                break
        state = loader.state_dict()
    with BigChunkSource(coordinates, **OPTIONS, passes=passes) as source:
        loader = iterate(source)
        loader.load_state_dict(state)
        assert_equal_batches(list(loader), whole[2:])
        assert len(list(loader)) == len(loader), "the next epoch is whole"


def test_a_state_loaded_into_the_source_itself(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        state = source.state_dict(after=take(source, 4)[3]["info"])
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source)
        source.load_state_dict(state)
        batch = next(iter(loader))
        assert int(batch["info"][0, InfoColumn.BATCH]) == 4
        assert loader.state_dict()["source"]["batches"] == 5


@pytest.mark.parametrize("passes", [None, 1])
def test_a_second_for_ends_the_first(coordinates: Dataset, passes: int | None) -> None:
    with BigChunkSource(coordinates, **OPTIONS, passes=passes) as source:
        loader = iterate(source)
        older = iter(loader)
        next(older)
        newer = iter(loader)
        next(newer)
        assert len(list(older)) == 0
        assert len(list(newer)) == len(loader) - 1
        assert len(list(loader)) == len(loader)


def test_a_state_saved_again_before_anything_was_read_is_the_same(real_slides: Any) -> None:
    dataset = Dataset.from_folder(real_slides)
    with BigChunkSource(dataset, **OPTIONS) as source:
        state = source.state_dict(after=take(source, 10)[9]["info"])
    with BigChunkSource(dataset, **OPTIONS) as source:
        source.load_state_dict(state)
        assert source._state_after(10) == state


def test_a_state_of_a_source_is_not_one_of_an_iterator(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **OPTIONS) as source,
        pytest.raises(StateError, match=r"loaded by source.load_state_dict"),
    ):
        iterate(source).load_state_dict(source.state_dict())


def test_the_state_of_a_plain_iterator_is_taken_by_info(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        batches = [batch for (batch,), _ in zip(plain(source), range(12), strict=False)]
        state = source.state_dict(after=batches[6]["info"])
    with BigChunkSource(coordinates, **OPTIONS) as source:
        source.load_state_dict(state)
        rest = [batch for (batch,), _ in zip(plain(source), range(5), strict=False)]
    assert_equal_batches(rest, batches[7:])


def test_resuming_keeps_what_stood_in_for_broken_slides(real_slides: Any) -> None:
    dataset = Dataset.from_folder(real_slides)
    options = {**OPTIONS, "num_workers": 2}
    with BigChunkSource(dataset, **options) as source:
        whole = take(source, 30)
        state = json.loads(json.dumps(source.state_dict(after=whole[9]["info"])))
    assert state["skipped_slides"] and any(state["places"].values())
    with BigChunkSource(dataset, **options) as source:
        source.load_state_dict(state)
        assert_equal_batches(take(source, 20), whole[10:])


def test_a_state_of_another_run_is_refused_with_what_differs(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        state = source.state_dict()
    with (
        BigChunkSource(coordinates, **{**OPTIONS, "crop_size": 33}, seed=9) as source,
        pytest.raises(
            StateError, match=r"crop: saved '32x32', here '33x33'; seed: saved 0, here 9"
        ),
    ):
        source.load_state_dict(state)


def test_a_state_must_come_before_the_first_batch(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        state = source.state_dict()
        take(source, 1)
        with pytest.raises(StateError, match="before the first batch"):
            source.load_state_dict(state)
        with pytest.raises(StateError, match=r'state_dict\(after=batch\["info"\]\)'):
            source.state_dict()


def test_an_epoch_length_is_for_endless_sources(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **OPTIONS, passes=1) as source,
        pytest.raises(OptionError, match="batches_per_epoch=7"),
    ):
        iterate(source, batches_per_epoch=7)


def test_batches_stay_intact_while_they_are_held(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source)
        held = [(batch, batch["image"].clone()) for batch in first(loader, 20)]
    for batch, copy in held:
        assert (batch["image"] == copy).all()


def test_stats_count_what_was_delivered(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS, passes=1) as source:
        batches = list(iterate(source))
        stats = source.stats()
    assert stats.crops == sum(len(b["image"]) for b in batches) == 120
    assert stats.batches == 5
    assert stats.chunks_read == sum(stats.reads_per_slide.values()) >= 6
    assert len(stats.reads_per_slide) == 6
    assert 0 < stats.decode_amplification < 16
    assert stats.decode_seconds > 0 and stats.startup_seconds > 0
    assert 0 <= stats.starved_fraction <= 1 and stats.crops_per_second > 0
    slides = [len(np.unique(b["info"][:, InfoColumn.SLIDE])) for b in batches]
    assert stats.distinct_slides_per_batch == pytest.approx(np.mean(slides), abs=0.5)


def test_a_second_thread_is_refused_and_the_first_goes_on(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source)
        batches = iter(loader)
        got = [next(batches)]
        with (
            ThreadPoolExecutor(1, "other") as other,
            pytest.raises(SourceError, match=r"thread 'MainThread' iterates .* 'other_0' began to"),
        ):
            other.submit(lambda: next(iter(loader))).result()
        got += list(batches)
        assert len(got) == len(loader)
    with BigChunkSource(coordinates, **OPTIONS) as source:
        np.testing.assert_array_equal(
            sum_up(got)["image"], sum_up(take(source, len(loader)))["image"]
        )


def test_threads_may_take_turns(coordinates: Dataset) -> None:
    """A loop that ended, was left by `break` or was made elsewhere bars no other thread."""
    with (
        BigChunkSource(coordinates, **OPTIONS) as source,
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(1) as other,
    ):
        loader = iterate(source)
        assert len(one.submit(list, loader).result()) == len(loader)
        for _ in loader:
            break
        assert len(other.submit(list, loader).result()) == len(loader)
        made_here = iter(loader)
        assert len(one.submit(list, made_here).result()) == len(loader)


def resumed(coordinates: Dataset, state: dict[str, Any], epoch: int | None) -> list[int]:
    """Numbers of the batches of the first `for` behind a state, of the epoch of this number."""
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source, batches_per_epoch=4)
        loader.load_state_dict(state)
        batches = iter(loader)
        if epoch is not None:
            loader.sampler.set_epoch(epoch)
        return [int(batch["info"][0, InfoColumn.BATCH]) for batch in batches]


@pytest.mark.parametrize(
    ("taken", "epoch", "expected"),
    [
        (4, 1, [4, 5, 6, 7]),  # a trainer that goes on behind the epoch's last batch
        (4, 0, []),  # the rest of the same epoch
        (4, None, []),  # a loop that does not count
        (3, 0, [3]),
        (3, 1, [3]),
    ],
)
def test_an_epoch_that_a_trainer_has_counted_is_not_brought_to_its_end(
    coordinates: Dataset, taken: int, epoch: int | None, expected: list[int]
) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source, batches_per_epoch=4)
        loader.set_epoch(0)
        batches = iter(loader)
        for _ in range(taken):
            next(batches)
        state = loader.state_dict()
    assert resumed(coordinates, state, epoch) == expected
    with BigChunkSource(coordinates, **OPTIONS) as source:
        again = iterate(source, batches_per_epoch=4)
        again.load_state_dict(state)
        assert again.state_dict() == state


def test_a_trainer_that_goes_on_without_a_state_is_warned(
    coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = iterate(source)
        for epoch in (3, 4):
            loader.set_epoch(epoch)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "goes on with epoch 3, but gave this iterator no state" in caplog.text
    with BigChunkSource(coordinates, **OPTIONS, passes=1) as source:
        iterate(source).set_epoch(3)
    assert len(caplog.records) == 1
