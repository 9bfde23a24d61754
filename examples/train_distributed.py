"""Trains a small classifier with several processes, one GPU or CPU each, and resumes exactly.

    torchrun --nproc-per-node 2 examples/train_distributed.py slides/ run/ --epochs 4

`slides/` has a folder of slides for each class. `run/` holds what is needed to go on, saved every
--save-every steps, in the middle of an epoch too, and at the end: the model once, and of each rank
its place in the data; and a log of each rank. Run the same command again after whatever ended it,
or with more epochs, and it goes on as if it had never ended.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator
from pydmed_dali.demo.network import TissueNet
from pydmed_dali.pipelines.classification import classification


def main() -> None:
    """Train, from the last checkpoint on where there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("run", type=Path, help="the folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    arguments = parser.parse_args()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(arguments.slides, arguments.run, arguments.epochs, arguments.save_every)
    finally:
        dist.destroy_process_group()


def train(slides: Path, run: Path, epochs: int, save_every: int) -> None:
    """One rank's part of all epochs."""
    run.mkdir(parents=True, exist_ok=True)
    rank = dist.get_rank()
    dataset = Dataset.from_folder(slides, label=lambda path: path.parent.name)
    torch.manual_seed(0)  # the same first weights on every rank
    device = local_device()
    network = TissueNet(len(dataset.classes)).to(device)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    # Each rank visits other BigChunks, and gets its share of every label: the source asks
    # torch.distributed which one it is.
    with BigChunkSource(
        dataset,
        chunk_size=512,
        crop_size=96,
        batch_size=16,
        resident=2,
        crops_per_chunk=32,
        num_workers=1,
        device=device.type.replace("cuda", "gpu"),
    ) as source:
        # The length of an endless source's epoch is the same on all ranks, so none waits for
        # another that has ended.
        loader = SmallChunkIterator(classification(source))
        step, first = resume(run, rank, network, optimizer, loader)
        with open(run / f"rank-{rank}.jsonl", "a", buffering=1) as log:
            for epoch in range(first, epochs):
                for batch in loader:  # once resumed, first the rest of the interrupted epoch
                    step += 1
                    loss = train_step(model, optimizer, batch)
                    log.write(json.dumps({"step": step, "loss": loss, **seen(batch)}) + "\n")
                    if step % save_every == 0:
                        save(run, rank, step, epoch, network, optimizer, loader)
            if first < epochs:  # else nothing was trained, and the others may still be reading
                save(run, rank, step, epochs, network, optimizer, loader)


def local_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", torch.cuda.current_device())


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]
) -> float:
    """One step; the loss of this rank's batch."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"].flatten())
    torch.autograd.backward(loss)  # averages the gradients of all ranks
    optimizer.step()
    return float(loss)


def seen(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What the batch consists of, for the log: its chunks, and the label of each crop."""
    return {
        "chunks": batch["info"][:, InfoColumn.CHUNK].tolist(),
        "labels": batch["label"].flatten().tolist(),
    }


def save(
    run: Path,
    rank: int,
    step: int,
    epoch: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: SmallChunkIterator,
) -> None:
    """Keep a step of `epoch`: a file of each rank, since each has a place of its own."""
    folder = run / f"step-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(loader.state_dict(), folder / f"data-{rank}.pt")
    if rank == 0:
        trained = {
            "model": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
        }
        torch.save(trained, folder / "trained.pt")
    dist.barrier()  # every file is whole before `latest` names them
    if rank == 0:
        (run / "latest.part").write_text(str(step))
        (run / "latest.part").replace(run / "latest")


def resume(
    run: Path,
    rank: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: SmallChunkIterator,
) -> tuple[int, int]:
    """Go on from the last checkpoint, if there is one; (steps done, the epoch they are in)."""
    if not (run / "latest").exists():
        return 0, 0
    step = int((run / "latest").read_text())
    folder = run / f"step-{step}"
    device = next(network.parameters()).device
    trained = torch.load(folder / "trained.pt", map_location=device, weights_only=True)
    network.load_state_dict(trained["model"])
    optimizer.load_state_dict(trained["optimizer"])
    loader.load_state_dict(torch.load(folder / f"data-{rank}.pt", weights_only=True))
    return step, trained["epoch"]


if __name__ == "__main__":
    main()
