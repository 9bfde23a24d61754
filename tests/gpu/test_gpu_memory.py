"""GPU memory: the ring is there once, no batch adds to it, and all of it is given back."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.errors import RingMemoryError
from pydmed_dali.pipelines.basic import basic
from tests.faults.colours import ColourLoader, colour_dataset
from tests.gpu.places import DEVICE, MAPPED
from tests.support import NAMES, first

pytestmark = pytest.mark.gpu

MIB = 2**20


def used() -> int:
    """Bytes of the card in use, by all that runs there."""
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def open_source(place: dict[str, Any], resident: int = 24) -> BigChunkSource:
    """A ring of about 12 MiB a chunk, which every batch moves on."""
    return BigChunkSource(
        colour_dataset(40), chunk_size=2048, crop_size=256, batch_size=64, resident=resident,
        crops_per_chunk=64, num_workers=2, loader=ColourLoader(), **place,
    )  # fmt: skip


def warm_up() -> None:
    """What DALI, CuPy and torch take for themselves when first used."""
    for place in (DEVICE, MAPPED):
        with open_source(place, resident=2) as source:
            list(first(SmallChunkIterator(basic(source), NAMES), 5))
    gc.collect()


@pytest.mark.parametrize("place", [DEVICE, MAPPED], ids=["device", "mapped"])
def test_no_batch_copies_the_ring(place: dict[str, Any]) -> None:
    """A hidden copy would take a ring's bytes a second time; of `mapped`, a first time."""
    warm_up()
    before = used()
    with open_source(place) as source:
        ring = source._engine.ring.layout.pixel_bytes
        assert ring > 300 * MIB
        batches = first(SmallChunkIterator(basic(source), NAMES), 10**9)
        for _ in range(10):
            next(batches)
        settled = used()
        for _ in range(200):
            next(batches)
        assert used() - settled < 16 * MIB
        own = ring if place is DEVICE else 0
        assert used() - before < own + ring // 2
        del batches


def test_what_a_ring_took_is_given_back() -> None:
    warm_up()
    before = used()
    for _ in range(5):
        with open_source(DEVICE) as source:
            list(first(SmallChunkIterator(basic(source), NAMES), 5))
        gc.collect()
    assert used() - before < 128 * MIB


def test_a_ring_larger_than_the_cards_share_is_refused(coordinates: Dataset) -> None:
    free = torch.cuda.mem_get_info()[0]
    chunks = int(free * 0.02) // (4096 * 4096 * 3) + 2
    with pytest.raises(RingMemoryError, match="raise gpu_memory_share, or use residency"):
        BigChunkSource(coordinates, resident=chunks, gpu_memory_share=0.02, **DEVICE)


def test_auto_falls_back_to_the_host_and_says_why(
    coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with BigChunkSource(
        coordinates, chunk_size=1024, batch_size=8, resident=4, num_workers=1,
        gpu_memory_share=1e-5,
    ) as source:  # fmt: skip
        assert source.residency == "host"
        assert "gpu_memory_share=1e-05 of the" in caplog.text
        assert "device" in RINGS
