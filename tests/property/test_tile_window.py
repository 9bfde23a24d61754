"""Every tile is dealt once, in order, and the ring is large enough for the chunks of a batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.plan.tile_window import TileWindow, share_slides

counts = st.lists(st.integers(1, 12), min_size=1, max_size=30)
batch_sizes = st.integers(1, 20)


@given(counts, batch_sizes, st.integers(1, 6))
def test_a_run_deals_every_tile_once_and_in_order(
    tiles: list[int], batch_size: int, most: int
) -> None:
    window = TileWindow.of(tiles, batch_size, most)
    dealt = []
    for call in range(window.batches):
        deal = window.deal(call)
        assert len(deal.chunk) == batch_size
        here = window.tiles_in(call)
        assert deal.valid.tolist() == [n < here for n in range(batch_size)]
        pairs = list(zip(deal.chunk.tolist(), deal.crop.tolist(), strict=True))
        assert set(pairs[here:]) <= {pairs[here - 1]}, "the rest are copies of the last"
        chunks = {chunk for chunk, _ in pairs}
        assert len(chunks) <= most
        assert (min(chunks), max(chunks)) == (window.first_chunk(call), window.last_chunk(call))
        assert here == batch_size or len(chunks) == most or call == window.batches - 1
        dealt += pairs[:here]
    assert dealt == [(chunk, crop) for chunk, n in enumerate(tiles) for crop in range(n)]
    assert window.tiles == len(dealt)


@given(counts, batch_sizes, st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
def test_the_ring_holds_what_the_batches_in_flight_touch_and_what_is_loaded(
    tiles: list[int], batch_size: int, most: int, depth: int, loads: int
) -> None:
    window = TileWindow.of(tiles, batch_size, most)
    slots = window.ring_size(depth, loads)
    assert slots <= depth * most + loads
    for call in range(2 * window.batches):
        oldest = window.oldest_in_use(call, depth)
        run, batch = window.place(call)
        in_flight = [run * window.batches + b for b in range(max(batch - depth + 1, 0), batch + 1)]
        assert oldest == min(map(window.first_chunk, in_flight))
        assert window.last_chunk(call) - oldest + 1 + loads <= slots


@given(counts, batch_sizes)
def test_a_second_run_deals_the_same_with_numbers_that_go_on(
    tiles: list[int], batch_size: int
) -> None:
    window = TileWindow.of(tiles, batch_size, 4)
    for batch in range(window.batches):
        first, second = window.deal(batch), window.deal(batch + window.batches)
        assert (first.chunk + len(tiles) == second.chunk).all()
        assert (first.crop == second.crop).all()
        assert window.visit(int(second.chunk[0])) == first.chunk[0]
        assert window.last_chunk(batch) < window.read_until(batch) <= second.chunk.min()


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 8))
def test_ranks_share_all_slides_by_their_tiles(tiles: list[int], world_size: int) -> None:
    shares = share_slides(tiles, world_size)
    assert sorted(slide for share in shares for slide in share) == list(range(len(tiles)))
    loads = [sum(tiles[slide] for slide in share) for share in shares]
    assert max(loads) - min(loads) <= max(tiles, default=0)
