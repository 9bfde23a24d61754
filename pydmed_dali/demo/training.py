"""Streaming from a source, training on it, and testing on slides that were not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from pydmed_dali import BigChunkSource, SmallChunkIterator
from pydmed_dali.dali.device import core_count
from pydmed_dali.demo.crop_recorder import CropRecorder
from pydmed_dali.demo.network import TissueNet, on_ground
from pydmed_dali.pipelines.classification import classification

Batch = dict[str, Tensor]

_NAMES = ("image", "label", "info")
_HIGHEST_RATE = 4e-3
_FEWEST = 2  # crops that batch normalisation needs


@dataclass(frozen=True, slots=True)
class Scores:
    """How a network did on crops that it had not seen."""

    right: Tensor
    """(classes,) int64: crops of each class that were recognised."""
    judged: Tensor
    """(classes,) int64: crops of each class that show it."""
    left_out: float
    """Share of all crops that lie mostly on the ground, and so were not judged."""

    @property
    def accuracy(self) -> float:
        """Share of the judged crops that were recognised; 0 where none was judged."""
        return int(self.right.sum()) / max(int(self.judged.sum()), 1)


def stream(
    source: BigChunkSource, steps: int, progress: Progress, description: str
) -> Iterator[Batch]:
    """The next `steps` batches of an endless source's `classification` pipeline.

    The progress bar tells crops per second and the starved share while they come.
    """
    loader = SmallChunkIterator(classification(source), _NAMES, batches_per_epoch=steps)
    task = progress.add_task(description, total=steps, note="filling the ring")
    for batch in loader:
        yield batch
        stats = source.stats()
        note = f"{stats.crops_per_second:,.0f} crops/s, starved {stats.starved_fraction:.0%}"
        progress.update(task, advance=1, note=note)


@contextmanager
def threads_for_torch() -> Iterator[None]:
    """Leave torch half of the cores: the others are DALI's and the loader's.

    Threads of torch that run spin for those that have no core: on two busy cores, a step with two
    threads took more than twice as long as with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(core_count() // 2, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@threads_for_torch()
def train(
    network: TissueNet, source: BigChunkSource, steps: int, trail: CropRecorder, progress: Progress
) -> float:
    """Train on `steps` batches; return the share of crops left out, which lie on the ground."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _HIGHEST_RATE, total_steps=steps)
    crops = used = 0
    network.train()
    for batch in stream(source, steps, progress, "training"):
        show_class = ~on_ground(batch["image"])
        trail.add(batch, show_class)
        images, labels = batch["image"][show_class], batch["label"][show_class]
        crops, used = crops + len(show_class), used + len(images)
        if len(images) < _FEWEST:
            continue
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(network(images), labels.flatten()))
        optimizer.step()
        schedule.step()
    return 1 - used / crops


@threads_for_torch()
@torch.inference_mode()
def test(network: TissueNet, source: BigChunkSource, progress: Progress) -> Scores:
    """Judge the crops of one run of a finite source, as they are: without augmentation."""
    loader = SmallChunkIterator(classification(source, augment=False), _NAMES)
    task = progress.add_task("testing", total=len(loader), note="")
    classes = len(source.dataset.classes)
    right = torch.zeros(classes, dtype=torch.int64)
    judged = right.clone()
    crops = 0
    network.eval()
    for batch in loader:
        show_class = ~on_ground(batch["image"])
        labels = batch["label"][show_class].flatten().cpu()
        found = network(batch["image"][show_class]).argmax(dim=1).cpu()
        right += torch.bincount(labels[found == labels], minlength=classes)
        judged += torch.bincount(labels, minlength=classes)
        crops += len(show_class)
        progress.update(task, advance=1)
    return Scores(right, judged, 1 - int(judged.sum()) / crops)
