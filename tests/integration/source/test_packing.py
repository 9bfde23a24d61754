"""Slots hold a chunk's crops where those are few: what arrives is the same, and takes less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pydmed_dali import BigChunkLoader, BigChunkSource, Dataset, Point, Size, TileSource, View
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.errors import RingMemoryError
from pydmed_dali.geometry import Region
from pydmed_dali.ring.layout import Layout
from pydmed_dali.ring.memory import free_memory
from pydmed_dali.ring.packing import packed_crop
from pydmed_dali.slide.slide import Slide
from pydmed_dali.source import options
from tests.drawings import CLASSES, OUTPUTS, annotate, join, take_masked
from tests.staged_host import staged_host_ring
from tests.support import NAMES, sum_up, take

RUN: dict[str, Any] = {
    "chunk_size": 600,
    "crop_size": Size(120, 72),
    "batch_size": 12,
    "resident": 3,
    "crops_per_chunk": 7,
    "num_workers": 0,
    "on_error": "skip",
}


class Darkens(BigChunkLoader):
    """Reads by code of its own, which sees the whole chunk."""

    def extract_bigchunk(
        self,
        slide: Slide,
        view: View,
        origin: Point,
        out: NDArray[Any],
        parts: Sequence[Region],
    ) -> None:
        super().extract_bigchunk(slide, view, origin, out, parts)
        for part in parts:
            out[part.slices] //= 2


def both_ways(run: Callable[[], Any]) -> tuple[Any, Any]:
    """What a run gives with crops in the slots, and with chunks."""
    packed = run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "packed_crop", lambda *_: None)
        return packed, run()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"level": 1},
        {"mpp": 1.3},
        {"min_tissue": 0.5},
        {"loader": Darkens()},
        {"num_workers": 2},
        {"batch_size": 2, "crops_per_chunk": 5},
        {"crops_per_chunk": 30},
    ],
    ids=lambda changed: ", ".join(changed) or "as it is",
)
def test_crops_are_those_cut_from_chunks(real_slides: Path, changed: dict[str, Any]) -> None:
    """Of slides of both readers and all codings, some smaller than a chunk and some damaged."""
    dataset = Dataset.from_folder(real_slides)

    def run() -> tuple[dict[str, NDArray[Any]], float, int]:
        with BigChunkSource(dataset, **{**RUN, **changed}) as source:
            batches = sum_up(take(source, 25))
            amplification = source.stats().decode_amplification
            return batches, amplification, source._engine.ring.layout.pixel_bytes

    (packed, few, less), (whole, many, more) = both_ways(run)
    for name in NAMES:
        np.testing.assert_array_equal(packed[name], whole[name])
    assert less < more
    assert few == pytest.approx(many) or "num_workers" in changed  # which may have read further


@pytest.mark.parametrize("residency", ["host", "staged"])
def test_masks_are_cut_like_images(
    coordinates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, residency: str
) -> None:
    annotate(coordinates, tmp_path)
    if residency == "staged":
        monkeypatch.setitem(RINGS, "host", staged_host_ring)

    def run() -> dict[str, NDArray[Any]]:
        with BigChunkSource(
            coordinates, annotations=tmp_path, classes=CLASSES, **{**RUN, "chunk_size": 400}
        ) as source:
            return join(take_masked(source, 20))

    assert packed_crop(Size(400, 400), RUN["crop_size"], RUN["crops_per_chunk"])
    packed, whole = both_ways(run)
    assert len(np.unique(packed["mask"])) > 1
    for name in OUTPUTS:
        np.testing.assert_array_equal(packed[name], whole[name])


def test_a_staged_ring_gets_the_crops_and_nothing_else(
    coordinates: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []

    def run() -> dict[str, NDArray[Any]]:
        with BigChunkSource(coordinates, **{**RUN, "crops_per_chunk": 6}) as source:
            batches = sum_up(take(source, 20))
            copier = source._engine.pool._copier  # type: ignore[attr-defined]
            copied.append(copier.copied_bytes / source.stats().chunks_read)
            return batches

    monkeypatch.setitem(RINGS, "host", staged_host_ring)
    packed, whole = both_ways(run)
    for name in NAMES:
        np.testing.assert_array_equal(packed[name], whole[name])
    assert copied[0] == pytest.approx(6 * 120 * 72 * 3, rel=0.25)  # some are read ahead
    assert copied[0] < 0.6 * copied[1]


def test_a_reader_that_is_put_in_place_of_ours_is_asked(real_slides: Path, tmp_path: Path) -> None:
    """Also on one loader alone, where a class of its own is not seen."""
    name = "CMU-1-Small-Region.svs"
    (tmp_path / name).symlink_to((real_slides / name).resolve())
    loader = BigChunkLoader()
    loader.extract_bigchunk = MethodType(Darkens.extract_bigchunk, Darkens())  # type: ignore[method-assign]
    dataset = Dataset.from_folder(tmp_path)
    with BigChunkSource(dataset, **RUN, loader=loader) as source:
        darkened = sum_up(take(source, 5))["image"]
    with BigChunkSource(dataset, **RUN) as source:
        assert (sum_up(take(source, 5))["image"] // 2 == darkened).all()


def test_a_ring_of_crops_that_is_too_large_names_what_makes_it_smaller(
    coordinates: Dataset,
) -> None:
    with pytest.raises(RingMemoryError, match=r"times \d+ crops of .*; lower crops_per_chunk, res"):
        BigChunkSource(
            coordinates, chunk_size=26000, crop_size=224, batch_size=64, num_workers=0,
            resident=free_memory() // (1000 * 224 * 224 * 3) + 10, crops_per_chunk=1000,
        )  # fmt: skip


def test_tiles_are_cut_from_chunks(coordinates: Dataset) -> None:
    """Each is shown once, and decoded once as well: nothing is won by cutting them out first."""
    with TileSource(coordinates, tile_size=64, batch_size=16, chunk_size=2048) as source:
        assert source._engine.ring.layout.slot == Size(2048, 2048)


def test_when_slots_hold_crops() -> None:
    chunk, crop = Size(4096, 4096), Size(224, 224)
    assert packed_crop(chunk, crop, 16) == packed_crop(chunk, crop, 256) == crop
    assert packed_crop(chunk, crop, 512) is None
    assert packed_crop(chunk, Size(8, 8), 1024) == Size(8, 8)
    assert packed_crop(chunk, Size(8, 8), 1025) is None
    layout = Layout(10, chunk, 0, 16, packed=crop)
    assert layout.slot == Size(224, 16 * 224)
    assert layout.pixel_bytes == 10 * 16 * 224 * 224 * 3


def test_volumes_keep_their_chunks(coordinates: Dataset) -> None:
    with BigChunkSource(
        coordinates, chunk_size=256, crop_size=16, crops_per_chunk=2, crop_depth=2,
        batch_size=4, resident=2, num_workers=0,
    ) as source:  # fmt: skip
        assert source._engine.ring.layout.slot == Size(256, 512)
