"""A user's own chunk policy, messages and crop sampler are heard and checked; timing is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    InfoColumn,
    Point,
    Size,
    SmallChunkIterator,
)
from pydmed_dali.errors import OptionError, SourceError, StateError, UserCodeError
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.own_loaders import Asks, Dies, Grid, Walk, Wrong
from tests.support import NAMES, SMALL_RUN, assert_coordinates, first, sum_up, take

SENT = {
    3: [("even/slide-0.tif", [64, 32]), ("odd/slide-1.tif", [2, 4])],
    4: [("even/slide-0.tif", [128, 0])],
    35: [("even/slide-2.tif", [8, 16])],
}
"""Messages, by the batch after which they are sent: where the next BigChunk shall lie."""


def run(
    dataset: Dataset,
    batches: int = 70,
    state: Mapping[str, Any] | None = None,
    sent: Mapping[int, list[tuple[str, Any]]] = SENT,
    **changed: Any,
) -> tuple[dict[str, Any], Any]:
    """What the batches up to that number held, and the state behind them, by way of JSON."""
    options = {**SMALL_RUN, "num_workers": 1, "loader": Walk(), **changed}
    with BigChunkSource(dataset, **options) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        begun = 0
        if state is not None:
            loader.load_state_dict(state)
            begun = state["source"]["batches"]
        held = []
        for batch in first(loader, batches - begun):
            held.append(batch)
            for patient, message in sent.get(int(batch["info"][0, InfoColumn.BATCH]), []):
                source.send(patient, message, after=batch["info"])
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


def corners(info: Any) -> dict[int, tuple[int, int, int]]:
    """(patient, x, y) of each BigChunk."""
    columns = [InfoColumn.CHUNK, InfoColumn.PATIENT, InfoColumn.CHUNK_X, InfoColumn.CHUNK_Y]
    return {c: (p, x, y) for c, p, x, y in info[:, columns].tolist()}


@pytest.mark.parametrize(("workers", "depth"), [(0, 2), (4, 1), (2, 5)])
def test_a_policy_with_state_and_messages_gives_the_same_crops(
    coordinates: Dataset, whole: dict[str, Any], workers: int, depth: int
) -> None:
    other, _ = run(coordinates, num_workers=workers, prefetch_depth=depth)
    assert_same(whole, other)


@pytest.mark.parametrize("place", [3, 5, 36])
def test_a_run_resumed_around_messages_goes_on_byte_for_byte(
    coordinates: Dataset, whole: dict[str, Any], place: int
) -> None:
    _, state = run(coordinates, place, num_workers=3, prefetch_depth=1)
    rest, _ = run(coordinates, state=state, num_workers=0, prefetch_depth=4)
    assert_same({name: whole[name][8 * place :] for name in NAMES}, rest)


def test_a_message_reaches_the_patients_first_chunk_behind_the_horizon(
    coordinates: Dataset, whole: dict[str, Any]
) -> None:
    with BigChunkSource(coordinates, **SMALL_RUN, loader=Walk()) as source:
        horizon = source._engine.scheduler.horizon
    chunks = corners(whole["info"])
    names = {patient.id: number for number, patient in enumerate(coordinates.patients)}

    def first_behind(batch: int, patient: str) -> tuple[int, int]:
        chunk = min(c for c in chunks if c >= batch + horizon and chunks[c][0] == names[patient])
        return chunks[chunk][1:]

    assert first_behind(4, "even/slide-0.tif") == (128, 0), "of two, the last one decides here"
    assert first_behind(3, "odd/slide-1.tif") == (2, 4)
    assert first_behind(35, "even/slide-2.tif") == (8, 16)


def test_each_visit_of_a_patient_sees_what_the_one_before_returned(
    coordinates: Dataset, whole: dict[str, Any]
) -> None:
    """The state holds the numbers of the visits so far: all of them, in order."""
    _, state = run(coordinates, 70, num_workers=3)
    chunks, known = corners(whole["info"]), state["source"]["told"]["patients"]["states"]
    for patient in range(6):
        visits = [entry[0] for entry in json.loads(known[str(patient)])]
        first_kept = visits[0]
        expected = [c for c in sorted(chunks) if chunks[c][0] == patient and c >= first_kept]
        assert visits[: len(expected)] == expected[: len(visits)] and len(visits) > 8


def test_where_a_slide_has_holes_the_plan_stands_in_and_the_state_waits(
    coordinate_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(coordinate_folder, tmp_path / "slides")
    broken = tmp_path / "slides" / "even" / "slide-0.tif"
    data = bytearray(broken.read_bytes())
    data[len(data) // 4 : len(data) // 3] = bytes(len(data) // 3 - len(data) // 4)
    broken.write_bytes(data)
    dataset = Dataset.from_folder(
        tmp_path / "slides", patient=lambda path: path.parent.name, label=lambda path: "one"
    )
    sent = {5: [("even", [0, 0])]}
    runs = [run(dataset, 50, sent=sent, num_workers=n)[0] for n in (0, 3)]
    assert_same(*runs)
    assert (runs[0]["info"][:, InfoColumn.ATTEMPT] > 0).any()


def test_a_worker_that_is_killed_in_a_policy_changes_nothing(
    coordinates: Dataset, whole: dict[str, Any], tmp_path: Path
) -> None:
    """Its replacement is told the same."""
    other, _ = run(coordinates, loader=Dies(tmp_path / "died"), num_workers=2)
    assert (tmp_path / "died").exists()
    assert_same(whole, other)


def test_a_policy_runs_in_a_finite_source_without_state(coordinates: Dataset) -> None:
    options = {**SMALL_RUN, "loader": Wrong(chunk=(Point(10, 20), None)), "passes": 1}
    with BigChunkSource(coordinates, **options) as source:
        info = sum_up(take(source, source.batches_per_epoch))["info"]
        assert {corner[1:] for corner in corners(info).values()} == {(10, 20)}
        with pytest.raises(SourceError, match="send is for endless sources"):
            source.send("even/slide-0.tif", 1, after=info)


def test_own_crops_are_cut_where_they_were_asked_for(
    coordinates: Dataset, coordinate_extents: dict[int, Size]
) -> None:
    with BigChunkSource(coordinates, **SMALL_RUN, loader=Grid()) as source:
        batches = take(source, 20)
    for batch in batches:
        assert_coordinates(batch, coordinate_extents)
    info = sum_up(batches)["info"]
    step = (256 - 64) // 3
    row, column = np.divmod(info[:, InfoColumn.CROP], 3)
    np.testing.assert_array_equal(
        info[:, InfoColumn.X] - info[:, InfoColumn.CHUNK_X], column * step
    )
    np.testing.assert_array_equal(info[:, InfoColumn.Y] - info[:, InfoColumn.CHUNK_Y], row * step)


def test_a_policy_may_ask_where_there_is_tissue(tmp_path: Path) -> None:
    write_tissue_slide(tmp_path / "slide.svs", Size(2048, 2048), tissue="tumor", seed=1)
    options = {**SMALL_RUN, "chunk_size": 512, "min_tissue": 0.9, "loader": Asks()}
    with BigChunkSource(Dataset.from_folder(tmp_path), **options) as source:
        loader = SmallChunkIterator(classification(source), NAMES)
        for _ in first(loader, 5):
            pass
        (places,) = loader.state_dict()["source"]["told"]["patients"]["states"].values()
    assert 0 < int(places) <= (512 - 64 + 1) ** 2


BROKEN = [
    (Wrong(chunk=Point(0, 0)), r"place_chunk.*returned Point\(x=0, y=0\); it must return \(Point"),
    (Wrong(chunk=(Point(1473, 0), None)), r"from Point\(x=0, y=0\) to Point\(x=1472, y=1216\)"),
    (Wrong(chunk=(Point(0, 0), {1, 2})), "returned a state that JSON cannot hold"),
    (Wrong(chunk=(Point(0, 0), "x" * 5000)), "a state of 5,002 characters"),
    (Wrong(chunk=ZeroDivisionError), r"raised ZeroDivisionError\('mine'\)"),
    (Wrong(crops=np.zeros((7, 2), np.int64)), r"shape \(7, 2\) and int64; it must return \(8, 2\)"),
    (Wrong(crops=np.zeros((8, 2))), r"shape \(8, 2\) and float64"),
    (
        Wrong(crops=np.full((8, 2), 193)),
        r"a crop at y=193, x=193;.*y is 0\.\.192 and x",
    ),
    (Wrong(crops=np.full((8, 2), -1)), "a crop at y=-1, x=-1"),
]


@pytest.mark.parametrize(("loader", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_what_own_code_must_not_return_ends_the_run(
    coordinates: Dataset, loader: BigChunkLoader, message: str
) -> None:
    options = {**SMALL_RUN, "num_workers": 0, "loader": loader}
    with (
        BigChunkSource(coordinates, **options) as source,
        pytest.raises(UserCodeError, match=message),
    ):
        take(source, 1)


def test_an_error_in_own_code_comes_from_a_worker_with_its_traceback(coordinates: Dataset) -> None:
    loader = Wrong(chunk=ZeroDivisionError)
    with (
        BigChunkSource(coordinates, **SMALL_RUN, loader=loader) as source,
        pytest.raises(UserCodeError, match=r"for patient '.*' on .*slide-") as caught,
    ):
        take(source, 1)
    assert "own_loaders.py" in str(caught.value.__cause__)


def test_messages_that_nobody_can_get_are_refused(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **SMALL_RUN) as source:
        (batch,) = SmallChunkIterator(classification(source), NAMES, batches_per_epoch=1)
        with pytest.raises(SourceError, match=r"send\(\) needs a loader"):
            source.send("even/slide-0.tif", 1, after=batch["info"])
    with BigChunkSource(coordinates, **SMALL_RUN, loader=Walk()) as source:
        (batch,) = SmallChunkIterator(classification(source), NAMES, batches_per_epoch=1)
        with pytest.raises(OptionError, match=r"no patient 'nobody'.*is like 'even/slide-0.tif'"):
            source.send("nobody", 1, after=batch["info"])
        with pytest.raises(OptionError, match="of JSON's kinds"):
            source.send("even/slide-0.tif", {1, 2}, after=batch["info"])
        with pytest.raises(OptionError, match="16,384 are the most"):
            source.send("even/slide-0.tif", "x" * 20_000, after=batch["info"])


def test_a_state_of_a_policy_is_refused_by_a_source_without_one(coordinates: Dataset) -> None:
    _, state = run(coordinates, 5)
    with pytest.raises(StateError, match="a place_chunk of its own"):
        run(coordinates, state=state, loader=BigChunkLoader(), sent={})
