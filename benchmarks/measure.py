"""One loader, timed: the same way for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from benchmarks.accounting import Content
from benchmarks.process_tree import cpu_seconds, disk_bytes, tree_pss
from benchmarks.workload import Workload

_LEAST_WARM_UP = 2  # batches of each worker, so that what was read ahead is used up
_MEMORY_SAMPLES = 6

Batch = tuple[torch.Tensor, Any]
"""Images (N, crop, crop, 3) uint8 in the CPU's memory, and a trace: what `content` is told from."""


class Loader(Protocol):
    """What a peer makes of a workload. Made, started, iterated once without end, asked, closed.

    Making it prepares what the benchmark and not the loader needs, such as lists of places, and is
    not timed.
    """

    def start(self) -> None:
        """Make the loader proper."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """Endless batches."""
        ...

    def content(self, traces: Sequence[Any]) -> Content:
        """What the batches were made of that came with these traces, one after another."""
        ...

    def close(self) -> None:
        """Stop the processes."""
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """What one loader reached in one timed run."""

    crops_per_second: float
    cpu_seconds: float
    """Of the whole process tree, for each 1,000 crops."""
    disk_bytes: float
    """What it had the kernel fetch from a disk for each crop; 0 where the slides are in memory."""
    content: Content
    memory: int
    """Bytes: the largest sum of the processes' proportional set sizes (PSS) that a few looks found
    right after the timed run, while the loader went on."""
    made_seconds: float
    """From the start until the loader was made; importing libraries is not counted."""
    first_batch_seconds: float
    """From the start until the first batch was there."""


def measure(make: Callable[[Workload], Loader], workload: Workload) -> Round:
    """Time a loader over at least `workload.seconds`, after those of `workload.warm_up`."""
    loader = make(workload)
    begun = time.perf_counter()
    try:
        loader.start()
        made = time.perf_counter()
        batches = iter(loader)
        images, _ = next(batches)
        first = time.perf_counter()
        _check(images, workload)
        del images
        ready = first + workload.warm_up
        least = _LEAST_WARM_UP * max(workload.workers, 1)
        while least > 0 or time.perf_counter() < ready:
            next(batches)
            least -= 1
        rate, cpu, disk, traces = _run(batches, workload)
        memory = max(_memory_samples(batches))
        found = loader.content(traces)
        del batches
    finally:
        loader.close()
    return Round(rate, cpu, disk, found, memory, made - begun, first - begun)


def _run(batches: Iterator[Batch], workload: Workload) -> tuple[float, float, float, list[Any]]:
    """(crops per second, processor seconds per 1,000 crops, bytes of a disk per crop, traces) of
    the timed run.

    It ends with a whole turn of the workers, which deliver their batches at almost the same time.
    """
    turn = max(workload.workers, 1)
    traces: list[Any] = []
    crops, used, fetched, begun = 0, cpu_seconds(), disk_bytes(), time.perf_counter()
    while (seconds := time.perf_counter() - begun) < workload.seconds or len(traces) % turn:
        images, trace = next(batches)
        traces.append(trace)
        crops += len(images)
        del images
    cpu, disk = cpu_seconds() - used, disk_bytes() - fetched
    return crops / seconds, cpu / crops * 1000, disk / crops, traces


def _memory_samples(batches: Iterator[Batch]) -> Iterator[int]:
    for _ in range(_MEMORY_SAMPLES):
        next(batches)
        yield tree_pss()


def _check(images: torch.Tensor, workload: Workload) -> None:
    expected = (workload.batch, workload.crop, workload.crop, 3)
    if tuple(images.shape) != expected or images.dtype != torch.uint8 or images.is_cuda:
        found = f"{tuple(images.shape)} {images.dtype} on {images.device}"
        raise ValueError(f"a batch must be {expected} torch.uint8 on the CPU, not {found}")
