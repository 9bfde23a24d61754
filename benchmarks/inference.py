"""A model over every tile of every slide: this project and what people use instead.

    .venv/bin/python -m benchmarks.inference [--model empty] [--rounds 3]
    .venv/bin/python -m benchmarks.inference --model resnet18 --count 1 --side 8192
    .venv/bin/python -m benchmarks.inference --stride 112       # each tile half over the next

Each peer runs the same model over the same grid of tiles (224x224, without overlap unless --stride
says otherwise, in batches of 256) of the same slides, with the same number of reading processes on
the same cores, and keeps what the model says. Every round starts every peer once, in a process of
its own, so that they take turns; the table gives medians over the rounds. A run is timed from the
making of the loader to the last tile, imports left out. The model `empty` takes one pixel of each
tile: what is left is the reading. MONAI leaves out tiles that reach beyond the slide's edge.
TIAToolbox 2.1.3 cannot be installed beside the torch of constraints.txt: it is run where this is
run by another Python.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from benchmarks.accounting import touched_pixels
from benchmarks.contenders import in_own_process
from benchmarks.crop_dataset import CropDataset
from benchmarks.machine import headline
from benchmarks.peers.openslide_reads import OpenSlideCrops
from benchmarks.places import SlideFile, slide_files
from benchmarks.process_tree import cpu_seconds
from benchmarks.resnet import ResNet18
from benchmarks.slides import dataset_of, slides_in
from benchmarks.workload import Workload, add_options
from pydmed_dali import SmallChunkIterator, TileSource
from pydmed_dali.pipelines.basic import basic

Tiles = Iterator[torch.Tensor]
"""Batches, (N, tile, tile, 3) uint8."""
Model = Callable[[torch.Tensor], torch.Tensor]

OURS, TARGET = "pydmed-dali", 10.0
AMPLIFICATION_TARGET = 1.1


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of one peer."""

    tiles: int
    seconds: float
    """From the making of the loader to the last tile."""
    first_batch_seconds: float
    cpu_seconds: float
    """Of the whole process tree."""
    amplification: float | None
    """Pixels decoded for each pixel delivered; None where that cannot be told."""


class Ours:
    """`TileSource` in a `SmallChunkIterator`."""

    def __init__(self, workload: Workload, stride: int) -> None:
        self._workload, self._stride = workload, stride
        self._dataset = dataset_of(workload.slides)
        self.amplification: float | None = None

    def batches(self) -> Tiles:
        """All tiles."""
        workload = self._workload
        with TileSource(
            self._dataset,
            tile_size=workload.crop,
            stride=self._stride,
            batch_size=workload.batch,
            chunk_size=workload.chunk,
            num_workers=workload.workers,
            device="cpu",
        ) as source:
            for batch in SmallChunkIterator(basic(source, num_threads=1)):
                yield batch["image"]
            self.amplification = source.stats().decode_amplification


class OneRead:
    """One read per tile in a torch DataLoader; the class has the reader."""

    def __init__(self, workload: Workload, stride: int) -> None:
        self._workload, self._slides = workload, slide_files(workload)
        grids = [_grid(n, slide, workload.crop, stride) for n, slide in enumerate(self._slides)]
        self._places = np.concatenate(grids)
        self._data = Subset(
            self._reader()(self._slides, self._places, workload.crop), range(len(self._places))
        )

    @staticmethod
    def _reader() -> type[CropDataset]:
        return OpenSlideCrops

    @property
    def amplification(self) -> float | None:
        """Each tile decodes all of the file's cells that it touches."""
        decoded = 0
        for number, slide in enumerate(self._slides):
            if slide.tile is None:
                return None
            x, y = self._places[self._places[:, 0] == number, 1:].T
            decoded += touched_pixels(x, y, self._workload.crop, slide.tile)
        return decoded / (len(self._places) * self._workload.crop**2)

    def batches(self) -> Tiles:
        """All tiles."""
        workload = self._workload
        loader = DataLoader(self._data, batch_size=workload.batch, num_workers=workload.workers)
        for image, _ in loader:
            yield image


class OneCuCIMRead(OneRead):
    """The same by cuCIM."""

    @staticmethod
    def _reader() -> type[CropDataset]:
        from benchmarks.peers.cucim_reads import CuCIMCrops

        return CuCIMCrops


class Monai:
    """MONAI's SlidingPatchWSIDataset with its cuCIM backend, in MONAI's DataLoader."""

    amplification = None

    def __init__(self, workload: Workload, stride: int) -> None:
        from cucim import CuImage  # noqa: F401  MONAI asks for it only when a tile is read

        self._workload, self._overlap = workload, 1 - stride / workload.crop
        self._samples = [{"image": str(slide.path)} for slide in slide_files(workload)]

    def batches(self) -> Tiles:
        """All tiles that lie whole on their slide."""
        import monai.data

        workload = self._workload
        dataset = monai.data.SlidingPatchWSIDataset(
            self._samples,
            patch_size=workload.crop,
            patch_level=0,
            overlap=self._overlap,
            reader="cuCIM",
            channel_dim=-1,
        )
        loader = monai.data.DataLoader(
            dataset, batch_size=workload.batch, num_workers=workload.workers
        )
        for batch in loader:
            yield batch["image"].as_tensor()


class TIAToolbox:
    """The dataset of TIAToolbox's engine, of all slides, in a torch DataLoader as there.

    Needs torch below 2.13, and torchvision: an environment of its own.
    """

    amplification = None

    def __init__(self, workload: Workload, stride: int) -> None:
        from tiatoolbox.models.dataset.dataset_abc import WSIPatchDataset

        self._workload = workload
        self._slides = [
            WSIPatchDataset(
                slide.path,
                patch_input_shape=(workload.crop, workload.crop),
                stride_shape=(stride, stride),
                resolution=0,
                units="level",
                auto_get_mask=False,
            )
            for slide in slide_files(workload)
        ]

    def batches(self) -> Tiles:
        """All tiles, those at the edges filled up."""
        workload = self._workload
        loader: DataLoader[dict[str, torch.Tensor]] = DataLoader(
            ConcatDataset(self._slides), batch_size=workload.batch, num_workers=workload.workers
        )
        for batch in loader:
            yield batch["image"]


PEERS: dict[str, tuple[str, Any]] = {
    "openslide": ("torch DataLoader + OpenSlide, one read per tile", OneRead),
    "cucim": ("torch DataLoader + cuCIM, one read per tile", OneCuCIMRead),
    "monai": ("MONAI SlidingPatchWSIDataset, cuCIM backend", Monai),
    "tiatoolbox": ("TIAToolbox, its engine's dataset", TIAToolbox),
    "ours": (OURS, Ours),
}


def measure(peer: str, model: Model, workload: Workload, stride: int) -> Run:
    """One pass in this process."""
    loader = PEERS[peer][1](workload, stride)
    kept, first = [], 0.0
    used, begun = cpu_seconds(), time.perf_counter()
    with torch.inference_mode():
        for tiles in loader.batches():
            first = first or time.perf_counter() - begun
            kept.append(model(tiles))
    seconds = time.perf_counter() - begun
    count = sum(len(each) for each in kept)
    return Run(count, seconds, first, cpu_seconds() - used, loader.amplification)


def empty(tiles: torch.Tensor) -> torch.Tensor:
    """(N, 3): one pixel of each tile."""
    return tiles[:, 0, 0].float()


def resnet18() -> Model:
    """ResNet-18 without training, on the CPU: (N, 1000)."""
    network: Any = ResNet18().eval()
    network = network.to(memory_format=torch.channels_last)
    return lambda tiles: network(tiles.permute(0, 3, 1, 2).float().div_(255))


def table(runs: dict[str, list[Run] | str]) -> list[str]:
    """Markdown: medians over the rounds; who has none is named."""
    lines = [
        "| loader | tiles | tiles/s | range | CPU s per 1,000 tiles | decoded / delivered "
        "| first batch, s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for peer, found in runs.items():
        title = PEERS[peer][0]
        if isinstance(found, str):
            lines.append(f"| {title} | not run: {found} |" + " |" * 5)
            continue
        rates = sorted(run.tiles / run.seconds for run in found)
        used = median(1000 * run.cpu_seconds / run.tiles for run in found)
        decoded = found[0].amplification
        lines.append(
            f"| {title} | {found[0].tiles:,} | {median(rates):,.0f} | "
            f"{rates[0]:,.0f}-{rates[-1]:,.0f} | {used:.3f} | "
            f"{'unknown' if decoded is None else f'{decoded:.2f}'} | "
            f"{median(run.first_batch_seconds for run in found):.2f} |"
        )
    return lines


def ratios(runs: dict[str, list[Run] | str], with_target: bool) -> list[str]:
    """How many times faster this project is than each other, and whether that is enough."""
    ours = runs.get("ours")
    if not isinstance(ours, list):
        return []
    lines = ["", "How many times faster this project is:", "", "| against | |", "|---|---|"]
    for peer, found in runs.items():
        if peer == "ours" or isinstance(found, str):
            continue
        ratio = _rate(ours) / _rate(found)
        text = f"{ratio:.2f}x"
        if with_target and peer == "openslide":
            text += f" (target {TARGET:g}x, {'met' if ratio >= TARGET else 'NOT met'})"
        lines.append(f"| {PEERS[peer][0]} | {text} |")
    decoded = ours[0].amplification
    if decoded is not None:
        met = "met" if decoded <= AMPLIFICATION_TARGET else "NOT met"
        target = f"target at most {AMPLIFICATION_TARGET}, {met}"
        lines += ["", f"Decoded for each pixel delivered: {decoded:.3f} ({target})."]
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the peers in turns and print the table; or, with --peer, one of them here."""
    chosen = _parser().parse_args(arguments)
    chosen.stride = chosen.stride or chosen.crop
    if chosen.peer:
        workload = Workload.from_arguments(chosen)
        workload.limit_cores()
        model = empty if chosen.model == "empty" else resnet18()
        print(json.dumps(asdict(measure(chosen.peer, model, workload, chosen.stride))))
        return
    with slides_in(chosen.slides, chosen.count, chosen.side) as slides:
        chosen.slides = slides
        runs = _play(chosen)
    print("\n".join([*headline("benchmarks.inference", chosen.cores), "", *table(runs)]))
    print("\n".join(ratios(runs, chosen.model == "empty" and chosen.stride == chosen.crop)))


def _play(chosen: argparse.Namespace) -> dict[str, list[Run] | str]:
    """Rounds of every peer, in turns, or why one has none."""
    workload = Workload.from_arguments(chosen)
    runs: dict[str, list[Run] | str] = {peer: [] for peer in chosen.peers}
    for number in range(chosen.rounds):
        for peer, found in runs.items():
            if isinstance(found, str):
                continue
            print(f"round {number + 1} of {chosen.rounds}: {peer}", file=sys.stderr, flush=True)
            options = ["--peer", peer, "--model", chosen.model, "--stride", str(chosen.stride)]
            options += workload.arguments()
            with tempfile.TemporaryDirectory(prefix="pydmed-dali-cache-") as cache:
                outcome = in_own_process("benchmarks.inference", options, Path(cache), _PATIENCE)
            if isinstance(outcome, str):
                runs[peer] = outcome
            else:
                found.append(Run(**outcome))
    return runs


_PATIENCE = 900.0  # seconds, after which a peer is taken to hang


def _grid(number: int, slide: SlideFile, tile: int, stride: int) -> np.ndarray:
    """(n, 3): the slide's number, x and y of as few tiles as cover it."""
    beyond = tile - stride  # of the slide's end: a tile that starts there shows nothing new
    width, height = (max(1, side - beyond) for side in (slide.size.width, slide.size.height))
    y, x = np.mgrid[0:height:stride, 0:width:stride]
    return np.column_stack([np.full(x.size, number), x.ravel(), y.ravel()])


def _rate(found: Sequence[Run]) -> float:
    return median(run.tiles / run.seconds for run in found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, leave_out=("slides",))
    parser.add_argument("--slides", type=Path, help="a folder of slides instead of new mosaics")
    parser.add_argument("--count", type=int, default=4, help="slides to write (4)")
    parser.add_argument("--side", type=int, default=20480, help="their side in pixels (20480)")
    parser.add_argument("--stride", type=int, help="from one tile to the next, pixels (a tile)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of everybody (3)")
    parser.add_argument("--model", choices=("empty", "resnet18"), default="empty")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--peer", choices=PEERS, help="run this one in this process")
    return parser


if __name__ == "__main__":
    main()
