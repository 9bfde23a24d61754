"""Finite sources: every slide by default, and no slide left out in silence."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator
from pydmed_dali.dataset import Patient, Record
from pydmed_dali.errors import RingMemoryError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.source.options import Options
from pydmed_dali.source.schedule import make_sampler, slides_left_out
from tests.support import NAMES, SMALL_RUN

RUN: dict[str, Any] = {**SMALL_RUN, "num_workers": 0, "passes": 1}
RECORDS = (3, 1, 2)
"""Slides of each patient, of six."""


@pytest.fixture(scope="module")
def cohort(coordinates: Dataset) -> Dataset:
    """Three patients of 3, 1 and 2 slides."""
    records = iter(coordinates.slides)
    return Dataset(
        tuple(
            Patient(str(number), tuple(next(records) for _ in range(count)), "ab"[number % 2])
            for number, count in enumerate(RECORDS)
        )
    )


@pytest.fixture(scope="module")
def options(cohort: Dataset) -> Options:
    with BigChunkSource(cohort, **RUN) as source:
        return source.options


def visits(source: BigChunkSource) -> Counter[int]:
    """How many crops of each slide a run gives."""
    found: Counter[int] = Counter()
    for batch in SmallChunkIterator(basic(source), NAMES):
        found.update(batch["info"][:, InfoColumn.SLIDE].tolist())
    return found


def test_a_finite_source_visits_every_slide_once(
    cohort: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with BigChunkSource(cohort, **RUN) as source:
        assert visits(source) == dict.fromkeys(range(6), RUN["crops_per_chunk"])
        report = source.report()
        assert (report.slides_left_out, str(report)) == ((), "nothing went wrong")
    assert not caplog.records


def test_the_ranks_of_a_finite_source_visit_every_slide_once(cohort: Dataset) -> None:
    found: Counter[int] = Counter()
    for rank in range(4):
        with BigChunkSource(cohort, rank=rank, world_size=4, **RUN) as source:
            found += visits(source)
    assert found == dict.fromkeys(range(6), RUN["crops_per_chunk"])


def test_an_endless_source_and_one_with_weights_are_balanced_by_patient(cohort: Dataset) -> None:
    for options in ({"passes": None}, {"weights": {"0": 2.0}}):
        with BigChunkSource(cohort, **{**RUN, **options}) as source:
            assert source.options.balance == "patient"


@pytest.mark.parametrize(
    "options",
    [
        {"balance": "patient"},
        {"balance": "label"},
        {"balance": "slide", "weights": {"0": 0.1}},
        {"weights": {"1": 9.0}, "passes": 2},
    ],
    ids=str,
)
def test_slides_that_a_run_leaves_out_are_told(
    cohort: Dataset, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with BigChunkSource(cohort, **{**RUN, **options}) as source:
        left_out = source.report().slides_left_out
        came = visits(source)
        assert left_out == source.report().slides_left_out
    missing = [record.path for n, record in enumerate(cohort.slides) if n not in came]
    assert missing and list(left_out) == missing
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1 and f"{len(missing)} of 6 slides are left out" in said[0].message
    assert f"{len(missing)} slides are never visited: {missing[0]}" in str(source.report())


cohorts = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@given(cohorts, st.integers(1, 3), st.integers(0, 1000))
def test_each_pass_balanced_by_patient_adds_one_slide_of_each(
    options: Options, counts: list[int], passes: int, seed: int
) -> None:
    dataset = Dataset(
        tuple(
            Patient(str(n), tuple(Record(Path("/s"), f"{n}-{s}.svs") for s in range(count)))  # type: ignore[arg-type]
            for n, count in enumerate(counts)
        )
    )
    by_patient = replace(options, passes=passes, seed=seed, balance="patient")
    left_out = slides_left_out(by_patient, dataset, None)
    assert len(left_out) == sum(max(count - passes, 0) for count in counts)
    every = replace(by_patient, balance="slide")
    sampler = make_sampler(every, dataset, None)
    planned = [next(sampler.candidates(v)).slide for v in range(passes * sum(counts))]
    assert Counter(planned) == dict.fromkeys(range(sum(counts)), passes)
    assert slides_left_out(every, dataset, None) == ()


def test_a_source_and_its_stats_print_readably(cohort: Dataset) -> None:
    with BigChunkSource(cohort, **RUN) as source:
        visits(source)
        assert repr(source) == (
            "<BigChunkSource, open: 3 patients, 6 slides; batches of 8 crops of 64x64 at level=0, "
            "from 3 BigChunks of 256x256; 0 workers, on the cpu; rank 0 of 1>"
        )
        lines = repr(source.stats()).splitlines()
    assert len(lines) == 3 and lines[0].startswith("6 batches, 48 crops, ")
    assert "BigChunks read of 6 slides" in lines[1]
    assert "closed" in repr(source)


def test_a_ring_beyond_memory_is_told_before_dalis_limit(cohort: Dataset) -> None:
    options: dict[str, Any] = {
        "chunk_size": 4096,
        "batch_size": 8,
        "crops_per_chunk": 512,
        "num_workers": 0,
    }
    with pytest.raises(RingMemoryError, match=r"the ring needs .* are free here"):
        BigChunkSource(cohort, resident=1_000_000, **options)
