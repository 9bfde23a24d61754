"""What DALI's random operators draw next is part of a state, or the state says that it is not."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import nvidia.dali
import pytest
from nvidia.dali import fn, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator, pipeline_def
from pydmed_dali.errors import PydmedError, SourceError, StateError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.source.saved_state import seal
from tests.faults.resumable import digest
from tests.support import NAMES, SMALL_RUN, first

UNKNOWN_FIELD = b"\x78\x01"
"""Number 15 of a protobuf message, which a reader that does not know it skips."""
FOR_EVER = 10**9
LENGTH = 6
"""Batches of an epoch: six patients that give eight crops each, in batches of eight."""


def open_source(dataset: Dataset, **options: Any) -> BigChunkSource:
    return BigChunkSource(dataset, **{**SMALL_RUN, "num_workers": 0, **options})


def iterate(source: BigChunkSource, **options: Any) -> SmallChunkIterator:
    return SmallChunkIterator(classification(source, **options), NAMES)


def digests(loader: SmallChunkIterator, batches: int) -> list[str]:
    return [digest(batch) for batch in islice(first(loader, FOR_EVER), batches)]


def plainly(source: BigChunkSource, options: dict[str, Any]) -> Any:
    return DALIGenericIterator([classification(source, **options)], NAMES, size=-1, auto_reset=True)


def endlessly(iterator: Any) -> Iterator[Any]:
    """Batches of DALI's own iterator, run after run of a finite source."""
    while True:
        for (batch,) in iterator:
            yield batch


@pytest.mark.parametrize("passes", [None, 1])
@pytest.mark.parametrize("used", [1, 5, 6, 7, 12])
def test_plain_dali_resumes_with_the_state_of_the_source_and_dalis_checkpoint(
    coordinates: Dataset, passes: int | None, used: int
) -> None:
    """For those who do without `SmallChunkIterator`: take both right behind a batch."""
    with open_source(coordinates, passes=passes) as source:
        iterator = plainly(source, {})
        whole = []
        for number, batch in zip(range(1, 21), endlessly(iterator), strict=False):
            whole.append(digest(batch))
            if number == used:
                (checkpoint,) = iterator.checkpoints()
                state = source.state_dict(after=batch["info"])
    with open_source(coordinates, passes=passes, prefetch_depth=3, num_workers=1) as source:
        source.load_state_dict(state)
        batches = endlessly(plainly(source, {"checkpoint": checkpoint}))
        rest = [digest(batch) for _, batch in zip(range(20 - used), batches, strict=False)]
    assert rest == whole[used:]


@pytest.mark.parametrize("passes", [None, 1])
def test_a_state_taken_after_an_epoch_begins_the_next_one(
    coordinates: Dataset, passes: int | None
) -> None:
    with open_source(coordinates, passes=passes) as source:
        loader = iterate(source)
        for _ in loader:
            pass
        state = loader.state_dict()
        second = [digest(batch) for batch in loader]
    assert len(second) == LENGTH
    with open_source(coordinates, passes=passes) as source:
        loader = iterate(source)
        loader.load_state_dict(state)
        assert [digest(batch) for batch in loader] == second


@pytest.mark.parametrize("used", range(1, LENGTH + 1))
def test_break_in_a_finite_epoch_draws_alike_at_any_prefetch_depth(
    coordinates: Dataset, used: int
) -> None:
    def draw(depth: int) -> list[str]:
        with open_source(coordinates, passes=1, prefetch_depth=depth) as source:
            loader = iterate(source)
            for number, _ in enumerate(loader, 1):
                if number == used:
                    break
            return digests(loader, 8)

    assert draw(1) == draw(2) == draw(4)


def test_a_state_taken_after_a_failure_is_behind_the_batch_that_the_loop_has(
    coordinate_folder: Path, tmp_path: Path
) -> None:
    """The call that fails has taken one more batch from DALI, which nobody got."""
    shutil.copytree(coordinate_folder, tmp_path / "slides")
    (tmp_path / "slides" / "none.svs").write_text("no slide")
    dataset = Dataset.from_folder(tmp_path / "slides")
    for seed in range(10):  # until it is not among the first slides
        got: list[str] = []
        with open_source(dataset, seed=seed, on_error="raise") as source:
            loader = iterate(source)
            with pytest.raises(PydmedError):
                got.extend(digest(batch) for batch in first(loader, FOR_EVER))
            state = loader.state_dict()
        if got:
            break
    assert got
    with open_source(dataset, seed=seed) as source:
        whole = digests(iterate(source), 20)
    with open_source(dataset, seed=seed, num_workers=2) as source:
        loader = iterate(source)
        loader.load_state_dict(state)
        assert [*got, *digests(loader, 20 - len(got))] == whole


def test_a_batch_that_was_lost_on_its_way_is_not_passed_over_in_silence(
    coordinates: Dataset,
) -> None:
    """An exception between DALI and the loop; here, because a batch cannot become a tensor."""

    @pipeline_def
    def ragged(source: BigChunkSource) -> Any:
        crops = source.small_chunks()
        height = 32 + (crops.info[InfoColumn.BATCH] == 3) * (crops.info[InfoColumn.CROP] % 2)
        image = fn.crop(crops.image, crop_h=fn.cast(height, dtype=types.FLOAT), crop_w=32)
        return image, crops.label, crops.info

    with open_source(coordinates) as source:
        loader = SmallChunkIterator(ragged(source), NAMES)
        with pytest.raises(RuntimeError, match="tensor"):
            digests(loader, LENGTH)
        assert loader.state_dict()["source"]["batches"] == 3
        with pytest.raises(SourceError, match="a batch from DALI, which is lost"):
            next(iter(loader))


def test_what_is_drawn_goes_on_in_any_pipeline(coordinates: Dataset) -> None:
    """Operators with random numbers of their own, in branches, and noise."""

    @pipeline_def(enable_conditionals=True)
    def many(source: BigChunkSource) -> Any:
        crops = source.small_chunks()
        image = fn.noise.shot(crops.image)
        if fn.random.coin_flip(dtype=types.BOOL):
            image = fn.noise.salt_and_pepper(image)
        else:
            image = fn.brightness(image, brightness=fn.random.normal(mean=1.0))
        return fn.random_resized_crop(image, size=[32, 32]), crops.label, crops.info

    with open_source(coordinates) as source:
        loader = SmallChunkIterator(many(source), NAMES)
        whole = digests(loader, 3)
        state = loader.state_dict()
        whole += digests(loader, 7)
    with open_source(coordinates) as source:
        loader = SmallChunkIterator(many(source, num_threads=1), NAMES)
        loader.load_state_dict(state)
        assert digests(loader, 7) == whole[3:]


def test_a_state_is_plain(coordinates: Dataset) -> None:
    with open_source(coordinates) as source:
        loader = iterate(source)
        digests(loader, 3)
        state = loader.state_dict()
    assert json.loads(json.dumps(state)) == state


def test_loading_a_state_unpickles_nothing(coordinates: Dataset) -> None:
    with open_source(coordinates) as source:
        loader = iterate(source)
        digests(loader, 3)
        state = loader.state_dict()
    events: list[str] = []
    listening = False
    sys.addaudithook(lambda event, _: events.append(event) if listening else None)
    with open_source(coordinates) as source:
        loader = iterate(source)
        listening = True
        loader.load_state_dict(state)
        assert "pickle.find_class" not in events
        pickle.loads(pickle.dumps(Path))
        listening = False
    assert "pickle.find_class" in events, "what was listened for can be heard"


def own(source: BigChunkSource, **options: Any) -> Any:
    """A pipeline made by DALI's `pipeline_def`, without checkpointing."""

    @nvidia.dali.pipeline_def
    def mirrored() -> Any:
        crops = source.small_chunks()
        image = fn.flip(crops.image, horizontal=fn.random.coin_flip())
        return image, crops.label, crops.info

    chosen = {**source.pipeline_options, "enable_checkpointing": False, **options}
    return SmallChunkIterator(mirrored(**chosen), NAMES)


def test_without_checkpointing_the_crops_go_on_and_a_warning_is_logged(
    coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with open_source(coordinates) as source:
        loader = own(source)
        held = list(islice(first(loader, FOR_EVER), 10))
        loader.state_dict()
        state = loader.state_dict()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "made without enable_checkpointing=True" in caplog.text
    assert state["pipeline"]["checkpoint"] is None
    caplog.clear()
    for checkpointing in (False, True):
        with open_source(coordinates) as source:
            loader = own(source, enable_checkpointing=checkpointing)
            loader.load_state_dict(state)
            assert "augmented otherwise" in caplog.text
            batch = next(iter(loader))
        assert (
            int(batch["info"][0, InfoColumn.BATCH])
            == int(held[-1]["info"][0, InfoColumn.BATCH]) + 1
            == 10
        )


def test_without_checkpointing_and_without_random_operators_there_is_nothing_to_say(
    coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with open_source(coordinates) as source:
        state = SmallChunkIterator(basic(source, enable_checkpointing=False), NAMES).state_dict()
    with open_source(coordinates) as source:
        SmallChunkIterator(basic(source), NAMES).load_state_dict(state)
    assert not caplog.records


def test_a_pipeline_without_checkpointing_refuses_what_it_cannot_go_on_from(
    coordinates: Dataset,
) -> None:
    with open_source(coordinates) as source:
        state = own(source, enable_checkpointing=True).state_dict()
    with open_source(coordinates) as source:
        loader = own(source)
        with pytest.raises(StateError, match="make it with enable_checkpointing=True, or, to go"):
            loader.load_state_dict(state)
        source.load_state_dict(state["source"])


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"augment": False}, r"operator __CoinFlip_\d+: saved 'OpSpec for random__CoinFlip.*here None"),
    ({"std": (1, 1, 1)}, r"operator __CropMirr\S+: saved .*58.395.*, here .*255.0"),
]


@pytest.mark.parametrize(("options", "words"), OTHERS)
def test_a_state_of_another_pipeline_is_refused_with_what_differs(
    coordinates: Dataset, options: dict[str, Any], words: str
) -> None:
    with open_source(coordinates) as source:
        state = iterate(source).state_dict()
    with open_source(coordinates) as source:
        with pytest.raises(StateError, match=words):
            iterate(source, **options).load_state_dict(state)
        source.load_state_dict(state["source"])  # what the message advises


def test_a_state_of_another_dali_is_refused(coordinates: Dataset) -> None:
    with open_source(coordinates) as source:
        loader = iterate(source)
        state = loader.state_dict()
        state["pipeline"]["dali"] = "2.3.0"
        with pytest.raises(StateError, match=r"DALI: saved 2.3.0, here \d+"):
            loader.load_state_dict(reseal(state))


def reseal(state: dict[str, Any]) -> dict[str, Any]:
    """A state with changed values and a digest that fits them."""
    return seal({name: v for name, v in state.items() if name not in ("version", "digest")})


def places(values: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to each value of nested dicts."""
    if way:
        yield way
    if isinstance(values, dict):
        for name, value in values.items():
            yield from places(value, (*way, name))


def damages(state: dict[str, Any]) -> Iterator[Any]:
    """States of which one value is gone or another, and things that are no state."""
    yield from (None, [], "state", b"state", 7, {}, {"version": 2}, {"source": state["source"]})
    for *way, last in places(state):
        for damage in (None, -1, "", "?", [], {}, object()):
            damaged = copy.deepcopy(state)
            inner = damaged
            for name in way:
                inner = inner[name]
            if damage == "":
                del inner[last]
            elif inner[last] == damage:
                continue
            else:
                inner[last] = damage
            yield damaged


def test_a_damaged_state_is_refused_in_words_and_changes_nothing(coordinates: Dataset) -> None:
    with open_source(coordinates) as source:
        loader = iterate(source)
        digests(loader, 4)
        state = loader.state_dict()
        rest = digests(loader, 3)
    with open_source(coordinates) as source:
        loader = iterate(source)
        count = 0
        for damaged in damages(state):
            count += 1
            with pytest.raises(StateError, match="state"):
                loader.load_state_dict(damaged)
        assert count > 300
        loader.load_state_dict(state)
        assert digests(loader, 3) == rest


FORGERIES: dict[str, Callable[[bytes], bytes | str]] = {
    "no base64 text": lambda content: "?",
    "DALI does not accept .*: Assert": lambda content: content[:-1],
    "DALI does not accept .*: There's no": lambda content: b"",
    "DALI does not accept .*: Missing Philox": lambda content: content.replace(b"hil", b"hal"),
    "DALI does not accept .*: it reads back": lambda content: content + UNKNOWN_FIELD,
}


@pytest.mark.parametrize("words", FORGERIES)
def test_a_checkpoint_that_dali_does_not_take_is_refused_in_words(
    coordinates: Dataset, words: str
) -> None:
    """However it came to fit the digest. The pipeline draws on as if nothing had happened."""
    with open_source(coordinates) as source:
        loader = iterate(source)
        fresh = loader.state_dict()["pipeline"]
        digests(loader, 2)
        state = loader.state_dict()
    forged = FORGERIES[words](base64.b64decode(state["pipeline"]["checkpoint"]))
    text = forged if isinstance(forged, str) else base64.b64encode(forged).decode()
    state["pipeline"]["checkpoint"] = text
    with open_source(coordinates) as source:
        loader = iterate(source)
        with pytest.raises(StateError, match=words):
            loader.load_state_dict(reseal(state))
        assert loader.state_dict()["pipeline"] == fresh
