"""The short form of `benchmarks/soak.py`: memory and descriptors stay, and a leak is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.soak import complaints, settled, watch
from pydmed_dali import BigChunkLoader, BigChunkSource, Dataset, Point, Size, Slide
from pydmed_dali.geometry import Region
from pydmed_dali.slide.protocol import Pixels
from pydmed_dali.slide.view import View
from tests.unit.slide.tiled_files import Coding, write_tiled

CROPS, EVERY = 60_000, 0.15
MOST_GROWTH = 4e6  # bytes; one leaked chunk in ten would be more than twice that


class Leaking(BigChunkLoader):
    """Keeps the memory, or the file, of some chunks that it reads."""

    kept: list[Any]

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        super().extract_bigchunk(slide, view, origin, out, parts)
        self.kept = getattr(self, "kept", [])
        self.count += 1
        if self.what == "memory" and self.count % 10 == 0:
            self.kept.append(np.full(out.size, self.count, np.uint8))
        elif self.what == "files" and self.count % 50 == 0:
            self.kept.append(slide.path.open("rb"))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("soak")
    path = write_tiled(folder / "0000.svs", Size(1024, 1024), Coding("jpeg", "ycbcr", "420"))
    for number in range(1, 200):
        (folder / f"{number:04}.svs").symlink_to(path)
    return Dataset.from_folder(folder)


def soak(dataset: Dataset, loader: BigChunkLoader) -> list[str]:
    """What did not stay as it was."""
    with BigChunkSource(
        dataset, chunk_size=512, crop_size=64, batch_size=64, resident=8, crops_per_chunk=32,
        num_workers=2, loader=loader,
    ) as source:  # fmt: skip
        samples = watch(source, lambda seconds, crops: crops >= CROPS, EVERY)
        assert source.stats().chunks_read > CROPS / 32
        assert not source.report().deaths
    assert len(samples) > 10
    return complaints(settled(samples), MOST_GROWTH)


def test_nothing_grows_while_chunks_are_replaced(slides: Dataset) -> None:
    assert soak(slides, BigChunkLoader()) == []


@pytest.mark.parametrize(("what", "words"), [("memory", "grew by"), ("files", "descriptors, ")])
def test_a_leak_is_noticed(slides: Dataset, what: str, words: str) -> None:
    assert any(words in complaint for complaint in soak(slides, Leaking(what)))
