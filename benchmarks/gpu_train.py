"""ResNet-50 in bfloat16, channels_last: images per second out of this loader and of no loader.

    .venv/bin/python -m benchmarks.gpu_train

The same loop trains once on one batch that stays on the card, then on batches of a source in each
residency, through `classification`: float16, NHWC, viewed as channels_last.
`idle` is the part of the time in which the card had ended a step and had no next batch, from events
on its own clock. About two minutes; `--device cpu` with small sizes runs without a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from nvidia.dali import types
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.card import print_head, print_header, print_row
from benchmarks.gpu_crop import make_slides
from benchmarks.resnet import ResNet50
from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.classification import classification

Batch = tuple[Tensor, Tensor]


class Clock:
    """Moments on the card's own clock, or this machine's where there is no card."""

    def __init__(self, device: str) -> None:
        self._gpu = device == "gpu"
        self._marks: list[Any] = []

    def mark(self) -> None:
        if not self._gpu:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append(event)

    def between(self) -> list[float]:
        """Seconds from each mark to the next."""
        if not self._gpu:
            return [b - a for a, b in zip(self._marks, self._marks[1:], strict=False)]
        torch.cuda.synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return [a.elapsed_time(b) / 1000 for a, b in pairs]


@dataclass(frozen=True)
class Speed:
    images_per_second: float
    idle: float
    """Part of the time between the end of a step and the start of the next one."""


class Trainer:
    def __init__(self, device: str, classes: int) -> None:
        self._device = device
        place = "cuda" if device == "gpu" else "cpu"
        torch.backends.cudnn.benchmark = True
        network: Any = ResNet50(classes).to(place, torch.bfloat16)
        self._network = network.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def run(self, batches: Iterator[Batch], steps: int, warm_up: int) -> Speed:
        for _ in range(warm_up):
            self._step(*next(batches))
        clock, images = Clock(self._device), 0
        for _ in range(steps):
            batch = next(batches)
            clock.mark()
            self._step(*batch)
            clock.mark()
            images += len(batch[0])
        spans = clock.between()
        # The first span is a step and so is the last: what lies between them alternates.
        return Speed(images / sum(spans), sum(spans[1::2]) / sum(spans))

    def _step(self, image: Tensor, label: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self._network(image).float(), label)
        torch.autograd.backward(loss)
        self._optimizer.step()


def as_trained(batch: dict[str, Tensor]) -> Batch:
    """(N, 3, h, w) bfloat16 in channels_last, by a view and one cast; label (N,)."""
    return batch["image"].permute(0, 3, 1, 2).to(torch.bfloat16), batch["label"].flatten()


def batches_of(source: BigChunkSource) -> Iterator[Batch]:
    pipeline = classification(source, dtype=types.FLOAT16, layout="HWC")
    loader = SmallChunkIterator(pipeline, ["image", "label", "info"])
    while True:
        yield from map(as_trained, loader)


def open_source(wishes: Any, dataset: Dataset, residency: str) -> BigChunkSource:
    return BigChunkSource(
        dataset,
        chunk_size=wishes.chunk,
        crop_size=wishes.crop,
        batch_size=wishes.batch,
        resident=wishes.resident,
        crops_per_chunk=wishes.crops_per_chunk,
        num_workers=wishes.workers,
        device=wishes.device,
        residency=residency,
    )


def measure(wishes: Any, dataset: Dataset) -> None:
    trainer = Trainer(wishes.device, len(dataset.classes))
    residencies = ["host"] if wishes.device == "cpu" else ["device", "mapped", "host"]
    print_header("batches from", "images/s", "of no loader", "idle", "starved")
    with open_source(wishes, dataset, residencies[0]) as source:
        image, label = next(batches_of(source))
        constant = (image.clone(memory_format=torch.preserve_format), label.clone())
    limit = trainer.run(repeat(constant), wishes.steps, wishes.warm_up)
    print_row("one batch on the card", f"{limit.images_per_second:,.1f}", "100%", "-", "-")
    for residency in residencies:
        try:
            with open_source(wishes, dataset, residency) as source:
                speed = trainer.run(batches_of(source), wishes.steps, wishes.warm_up)
                starved = f"{source.stats().starved_fraction:.1%}"
        except Exception as error:  # the others are worth having
            print_row(residency, f"{type(error).__name__}: {error}"[:200], "-", "-", "-")
            continue
        share = speed.images_per_second / limit.images_per_second
        rate = f"{speed.images_per_second:,.1f}"
        print_row(f"pydmed-dali, {residency}", rate, f"{share:.1%}", f"{speed.idle:.1%}", starved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--resident", type=int, default=32)
    parser.add_argument("--crops-per-chunk", type=int, default=512)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--slide", type=int, default=8192, help="side of the synthetic slides")
    wishes = parser.parse_args()
    print_head("benchmarks.gpu_train", wishes.device)
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_slides(Path(folder), wishes.slide)
        measure(wishes, dataset)


if __name__ == "__main__":
    main()
