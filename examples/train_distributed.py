"""Trains a small classifier with several processes, one GPU or CPU each, and resumes exactly.

    torchrun --nproc-per-node 2 examples/train_distributed.py slides/ run/ --epochs 4

`slides/` has a folder of slides for each class. `run/` holds what is needed to go on after any
epoch: the model once, and of each rank its place in the data; and a log of each rank. Run the same
command again with more epochs, and it goes on as if it had never ended.
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

from pydmed_dali import BigChunkSource, Dataset, Info, SmallChunkIterator
from pydmed_dali.demo.network import TissueNet
from pydmed_dali.pipelines.classification import classification

OUTPUTS = ["image", "label", "info"]


def main() -> None:
    """Train, from the last checkpoint on where there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("run", type=Path, help="the folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(arguments.slides, arguments.run, arguments.epochs)
    finally:
        dist.destroy_process_group()


def train(slides: Path, run: Path, epochs: int) -> None:
    """One rank's part of all epochs."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    dataset = Dataset.from_folder(slides, label=lambda path: path.parent.name)
    torch.manual_seed(0)  # the same first weights on every rank
    device = local_device()
    network = TissueNet(len(dataset.classes)).to(device)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    with BigChunkSource(
        dataset,
        chunk_size=512,
        crop_size=96,
        batch_size=16,
        resident=2,
        crops_per_chunk=32,
        num_workers=1,
        rank=rank,  # each rank visits other BigChunks,
        world_size=world_size,  # and gets its share of every label
        device=device.type.replace("cuda", "gpu"),
    ) as source:
        # The length of an endless source's epoch is the same on all ranks, so none waits for
        # another that has ended.
        loader = SmallChunkIterator(classification(source), OUTPUTS)
        first = resume(run, rank, network, optimizer, loader)
        for epoch in range(first, epochs):
            report = train_epoch(model, optimizer, loader)
            save(run, rank, epoch + 1, network, optimizer, loader)
            with open(run / f"rank-{rank}.jsonl", "a") as log:
                log.write(json.dumps({"epoch": epoch, **report}) + "\n")


def local_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", torch.cuda.current_device())


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: SmallChunkIterator
) -> dict[str, Any]:
    """One epoch; returns what this rank saw of it."""
    losses: list[float] = []
    labels_of_chunks: dict[int, int] = {}
    for batch in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"].flatten())
        torch.autograd.backward(loss)  # averages the gradients of all ranks
        optimizer.step()
        losses.append(loss.item())
        chunks, labels = batch["info"][:, Info.CHUNK].tolist(), batch["label"].flatten().tolist()
        labels_of_chunks.update(zip(chunks, labels, strict=True))
    return {"losses": losses, "labels_of_chunks": labels_of_chunks}


def save(
    run: Path,
    rank: int,
    epoch: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: SmallChunkIterator,
) -> None:
    """Keep the end of an epoch: a file of each rank, since each has a place of its own."""
    folder = run / f"epoch-{epoch}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(loader.state_dict(), folder / f"data-{rank}.pt")
    if rank == 0:
        trained = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(trained, folder / "trained.pt")
    dist.barrier()  # every file is whole before `latest` names them
    if rank == 0:
        (run / "latest.part").write_text(str(epoch))
        (run / "latest.part").replace(run / "latest")


def resume(
    run: Path,
    rank: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: SmallChunkIterator,
) -> int:
    """Go on from the last checkpoint, if there is one; returns the number of the next epoch."""
    if not (run / "latest").exists():
        return 0
    epoch = int((run / "latest").read_text())
    folder = run / f"epoch-{epoch}"
    device = next(network.parameters()).device
    trained = torch.load(folder / "trained.pt", map_location=device, weights_only=True)
    network.load_state_dict(trained["model"])
    optimizer.load_state_dict(trained["optimizer"])
    loader.load_state_dict(torch.load(folder / f"data-{rank}.pt", weights_only=True))
    return epoch


if __name__ == "__main__":
    main()
