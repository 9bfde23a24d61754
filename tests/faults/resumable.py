"""A training program that keeps its state on disk and can be interrupted at any step.

Tests run its generator, or the program itself in a process of its own:

    python -m tests.faults.resumable FOLDER STATE STEPS PASSES WORKERS DEPTH
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.classification import classification
from tests.support import NAMES, SMALL_RUN, Batch

LINE = 1024
"""Characters of a printed line: so many that a reader keeps the program from running far ahead."""
EPOCH = 9
"""Batches of an endless source's epoch, so that a run crosses some borders."""


def write_folder(folder: Path, healthy: Path) -> Path:
    """Healthy slides, one that ends too early, one with holes, and one that is no slide at all."""
    for number, slide in enumerate(sorted(healthy.rglob("*.tif"))):
        shutil.copy(slide, folder / f"{number}.tif")
    whole = (folder / "0.tif").read_bytes()
    (folder / "1.tif").write_bytes(whole[: len(whole) // 2])
    holes = bytearray(whole)
    holes[len(whole) // 4 : len(whole) // 3] = bytes(len(whole) // 3 - len(whole) // 4)
    (folder / "2.tif").write_bytes(holes)
    (folder / "none.svs").write_text("no slide")
    return folder


def train(
    folder: Path, state: Path, steps: int, passes: int | None, workers: int, depth: int
) -> Generator[str, None, None]:
    """Steps of a run, each as a digest of its batch; from the saved step on, if there is one."""
    options: dict[str, Any] = {**SMALL_RUN, "num_workers": workers, "prefetch_depth": depth}
    with BigChunkSource(Dataset.from_folder(folder), **options, passes=passes) as source:
        loader = SmallChunkIterator(
            classification(source), NAMES, batches_per_epoch=None if passes else EPOCH
        )
        step = 0
        if state.exists():
            saved = read(state)
            step = saved["step"]
            loader.load_state_dict(saved["data"])
        try:
            while step < steps:
                for batch in loader:
                    step += 1
                    write(state, {"step": step, "data": loader.state_dict()})
                    yield digest(batch)
                    if step == steps:
                        break
        except KeyboardInterrupt:
            data = loader.state_dict()
            write(state, {"step": data["source"]["batches"], "data": data})
            raise


def digest(batch: Batch) -> str:
    """A digest of the shapes, types and bytes of a batch."""
    content = hashlib.sha256()
    for name in NAMES:
        array = batch[name].numpy()
        content.update(f"{name} {array.dtype} {array.shape}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def read(file: Path) -> Any:
    """What `write` wrote; as torch does without pickled objects, or as JSON."""
    if file.suffix == ".pt":
        return torch.load(file, weights_only=True)
    return json.loads(file.read_text())


def write(file: Path, values: dict[str, Any]) -> None:
    """The whole file or none of it, whenever the process is killed."""
    part = file.with_name(file.name + ".part")
    if file.suffix == ".pt":
        torch.save(values, part)
    else:
        part.write_text(json.dumps(values))
    os.replace(part, file)


def main() -> None:
    """Print each step's digest."""
    folder, state, *numbers = sys.argv[1:]
    steps, passes, workers, depth = map(int, numbers)
    for line in train(Path(folder), Path(state), steps, passes or None, workers, depth):
        print(line.ljust(LINE), flush=True)


if __name__ == "__main__":
    main()
