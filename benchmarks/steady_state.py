"""Crops from resident chunks, in steady state and with replacement, against one read per crop.

    .venv/bin/python benchmarks/steady_state.py [--seconds 10] [--slides FOLDER]

On slides of the synthetic kind (made in a temporary folder unless --slides names some), 16 resident
chunks of 4096x4096, batches of 256 crops of 224x224, uint8 out of a plain DALIGenericIterator: once
while no chunk is replaced, once each chunk after 512 crops, which the reading of chunks limits. And
a torch DataLoader that reads each crop with OpenSlide, as most training code does. All take turns,
because the machine's speed drifts; the table gives each one's median.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import openslide
import torch
from nvidia.dali.plugin.pytorch import DALIGenericIterator
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from pydmed_dali import BigChunkSource, Dataset, Size
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.slide.tissue_slides import TISSUES, write_tissue_slide

BATCH, CROP, CHUNK, RESIDENT = 256, 224, 4096, 16
ROUNDS = 3
NEVER_REPLACED = 2**20  # crops of a chunk: more than are drawn here
NAMES = ["image", "label", "info"]
PEER = "torch DataLoader + OpenSlide, one read per crop, 2 workers"
STEADY = "pydmed-dali, nothing replaced, 2 DALI threads"
REPLACED = "pydmed-dali, chunks replaced after 512 crops, 2 loader processes"


class OpenSlideCrops(TorchDataset[torch.Tensor]):
    """One OpenSlide read per crop, at a random place of a random slide; handles kept open."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.slides: dict[Path, openslide.OpenSlide] = {}

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> torch.Tensor:
        rng = np.random.default_rng(index)
        path = self.paths[int(rng.integers(len(self.paths)))]
        slide = self.slides.get(path) or openslide.OpenSlide(path)
        self.slides[path] = slide
        width, height = slide.dimensions
        place = (int(rng.integers(width - CROP)), int(rng.integers(height - CROP)))
        image = slide.read_region(place, 0, (CROP, CROP)).convert("RGB")
        return torch.from_numpy(np.array(image))


def rate(batches: Iterator[int], seconds: float) -> float:
    """Crops per second over at least `seconds`, after a first batch that is not counted."""
    next(batches)
    begun, crops = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        crops += next(batches)
    return crops / (time.perf_counter() - begun)


def open_source(dataset: Dataset, crops_per_chunk: int, num_workers: int) -> BigChunkSource:
    return BigChunkSource(
        dataset,
        chunk_size=CHUNK,
        crop_size=CROP,
        batch_size=BATCH,
        resident=RESIDENT,
        crops_per_chunk=crops_per_chunk,
        num_workers=num_workers,
        device="cpu",
    )


def resident_crops(source: BigChunkSource, threads: int) -> Iterator[int]:
    iterator = DALIGenericIterator([basic(source, num_threads=threads)], NAMES, size=-1)
    return (len(batch["image"]) for (batch,) in iterator)


def openslide_crops(dataset: Dataset, workers: int) -> Iterator[int]:
    """A DataLoader of its own for each round: its workers would read on while others are timed."""
    crops = OpenSlideCrops([record.path for record in dataset.slides])
    for batch in DataLoader(crops, batch_size=BATCH, num_workers=workers):
        yield len(batch)


def make_slides(folder: Path) -> Dataset:
    for number, tissue in enumerate(TISSUES):
        write_tissue_slide(folder / f"{tissue}.svs", Size(8192, 8192), tissue=tissue, seed=number)
    return Dataset.from_folder(folder)


def measure(dataset: Dataset, seconds: float) -> dict[str, list[float]]:
    """Rounds of all in turn."""
    found: dict[str, list[float]] = {PEER: [], STEADY: [], REPLACED: []}
    with open_source(dataset, NEVER_REPLACED, 0) as source, open_source(dataset, 512, 2) as loading:
        steady, replaced = resident_crops(source, threads=2), resident_crops(loading, threads=1)
        for _ in range(ROUNDS):
            peer = openslide_crops(dataset, workers=2)
            found[PEER].append(rate(peer, seconds))
            del peer
            found[STEADY].append(rate(steady, seconds))
            found[REPLACED].append(rate(replaced, seconds))
        assert source.stats().chunks_read == RESIDENT, "a chunk was replaced"
    return found


def print_table(found: dict[str, list[float]], base: str) -> None:
    reference = statistics.median(found[base])
    print(
        f"{date.today()}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}, no GPU used"
    )
    print("command: .venv/bin/python benchmarks/steady_state.py\n")
    print("| loader | crops/s (median of 3) | range | against OpenSlide |\n|---|---|---|---|")
    for name, rates in found.items():
        middle = statistics.median(rates)
        span = f"{min(rates):,.0f}-{max(rates):,.0f}"
        print(f"| {name} | {middle:,.0f} | {span} | {middle / reference:.1f}x |")


def run(dataset: Dataset, seconds: float) -> None:
    print_table(measure(dataset, seconds), PEER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each timed run")
    parser.add_argument("--slides", type=Path, help="a folder of slides of at least 4096 pixels")
    arguments = parser.parse_args()
    if arguments.slides:
        run(Dataset.from_folder(arguments.slides), arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(make_slides(Path(folder)), arguments.seconds)


if __name__ == "__main__":
    main()
