"""The dealing of crops to batches and the ring's size, over many shapes of a run."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pydmed_dali.plan.window import Window, deal

shapes = st.tuples(st.integers(1, 19), st.integers(1, 59), st.integers(1, 40))


@given(st.integers(1, 24), st.integers(1, 80))
def test_every_chunk_behind_the_ramp_gives_each_crop_once(resident: int, per_chunk: int) -> None:
    chunks, crops = deal(np.arange(3 * resident * per_chunk, dtype=np.int64), resident, per_chunk)
    last_whole = 3 * resident - resident
    for chunk in range(resident - 1, last_whole + 1):
        assert sorted(crops[chunks == chunk]) == list(range(per_chunk))
    assert ((crops >= 0) & (crops < per_chunk)).all()
    assert len(set(zip(chunks.tolist(), crops.tolist(), strict=True))) == len(chunks)


@given(shapes, st.integers(1, 30))
def test_every_chunk_of_a_finite_run_gives_each_crop_once(
    shape: tuple[int, int, int], chunks: int
) -> None:
    window = Window.of(*shape, chunks)
    assert window.batches is not None
    given_out: Counter[tuple[int, int]] = Counter()
    for call in range(window.batches):
        batch = window.deal(call)
        for chunk, crop, valid in zip(*(column.tolist() for column in batch), strict=True):
            given_out[window.visit(chunk), crop] += valid
    expected = {
        (chunk, crop): 1 for chunk in range(chunks) for crop in range(window.crops_per_chunk)
    }
    assert given_out == expected


@given(shapes, st.integers(0, 10_000))
def test_a_batch_mixes_the_resident_chunks(shape: tuple[int, int, int], call: int) -> None:
    window = Window.of(*shape, None)
    touched = np.unique(window.deal(call).chunk)
    assert 2 * len(touched) >= min(shape[2], window.resident, window.crops_per_chunk)
    assert touched[0] >= window.first_chunk(call)
    assert touched[-1] <= window.last_chunk(call)


@given(st.integers(1, 19), st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_a_batch_mixes_all_of_them_where_their_number_divides_it(
    resident: int, rounds_per_chunk: int, rounds_per_batch: int, call: int
) -> None:
    window = Window.of(resident, resident * rounds_per_chunk, resident * rounds_per_batch, None)
    assert len(np.unique(window.deal(call).chunk)) >= resident


@settings(max_examples=300)
@given(shapes, st.one_of(st.none(), st.integers(1, 12)), st.integers(1, 4), st.integers(1, 6))
def test_the_ring_holds_what_batches_in_flight_read_and_what_is_next(
    shape: tuple[int, int, int], chunks: int | None, depth: int, loads: int
) -> None:
    """Every chunk that a call needs has a slot that no batch in flight can still read."""
    window = Window.of(*shape, chunks)
    slots = window.ring_size(depth, loads)
    for call in range(3 * (window.batches or 20)):
        oldest = window.oldest_in_use(call, depth)
        run = window.place(call)[0]
        in_flight = [k for k in range(max(call - depth + 1, 0), call) if window.place(k)[0] == run]
        assert all(window.deal(k).chunk.min() >= oldest for k in [*in_flight, call])
        assert window.last_chunk(call) - oldest < slots


@given(shapes, st.integers(1, 12), st.integers(0, 5))
def test_a_finite_run_repeats_itself(shape: tuple[int, int, int], chunks: int, run: int) -> None:
    window = Window.of(*shape, chunks)
    assert window.batches is not None
    for call in range(window.batches):
        once, again = window.deal(call), window.deal(run * window.batches + call)
        assert [window.visit(c) for c in once.chunk] == [window.visit(c) for c in again.chunk]
        np.testing.assert_array_equal(once.crop, again.crop)


def test_the_documented_defaults_make_37_slots() -> None:
    assert Window.of(32, 512, 256, None).ring_size(depth=2, loads=4) == 37
