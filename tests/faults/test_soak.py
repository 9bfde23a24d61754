"""Memory and descriptors do not grow: the soak of benchmarks/soak.py in its short form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.slides import dataset_of, link_slides
from pydmed_dali import BigChunkLoader, BigChunkSource, Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.faults.leaks import KeepsChunks, KeepsFiles

CROPS = int(os.environ.get("PYDMED_DALI_SOAK_CROPS", 60_000))
FEW_CROPS = 12_000
RUNS = 3
CHUNK, EACH = 256, 64
MOST_GROWTH = 40 * 3 * CHUNK**2
"""Bytes: 40 chunks, of 940 that 60,000 crops need. What allocators add in some seconds was up to
half of that; keeping one chunk of twenty would exceed it."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 slides: links to two files."""
    folder = tmp_path_factory.mktemp("soak")
    files = [
        write_tissue_slide(folder / f"{tissue}.svs", Size(512, 512), tissue=tissue, seed=1)
        for tissue in ("gland", "tumor")
    ]
    link_slides(files, folder / "links", 200)
    return folder / "links"


def complaints(slides: Path, crops: int, loader: BigChunkLoader | None = None) -> list[str]:
    """What a soak with constant replacement finds."""
    with BigChunkSource(
        dataset_of(slides),
        chunk_size=CHUNK,
        crop_size=32,
        batch_size=128,
        resident=8,
        crops_per_chunk=EACH,
        num_workers=2,
        loader=loader,
    ) as source:
        samples = soak.watch(source, lambda _, taken: taken >= crops, every=0.01)
        assert source.stats().chunks_read >= crops / EACH
    return soak.complaints(soak.settled(samples), MOST_GROWTH)


def test_memory_and_descriptors_stay_as_they_are(slides: Path) -> None:
    """A leak grows in every run; what allocators keep after other tests, in the first at most."""
    found = [complaints(slides, CROPS)]
    while found[-1] and len(found) < RUNS:
        found.append(complaints(slides, CROPS))
    assert found[-1] == [], found


@pytest.mark.parametrize(
    ("loader", "found"), [(KeepsChunks(), "own, worker"), (KeepsFiles(), "descriptors, worker")]
)
def test_a_worker_that_leaks_is_noticed(slides: Path, loader: BigChunkLoader, found: str) -> None:
    """The test above can fail: in both workers."""
    assert sum(text.startswith(found) for text in complaints(slides, FEW_CROPS, loader)) == 2


def test_a_leak_in_the_parent_is_noticed(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytearray] = []
    look = soak._look

    def leak() -> tuple[soak.Process, ...]:
        kept.append(bytearray(b"x") * 2**20)
        return look()

    monkeypatch.setattr(soak, "_look", leak)
    assert any(text.startswith("own, parent") for text in complaints(slides, FEW_CROPS))
