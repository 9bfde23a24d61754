"""Trains a network of timm's: normalised as it was pretrained, channels last, in bfloat16 if asked.

    pip install timm torchvision        # torchvision as it fits your torch
    python examples/train_timm.py slides/ --model resnet18 --pretrained --steps 200 --bfloat16

`slides/` has a folder of slides for each class. Mean and deviation of the colours and the size of
the input come from the model's own configuration, and the pipeline normalises with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from nvidia.dali import types
from torch import nn

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.classification import classification

OUTPUTS = ["image", "label", "info"]
OPTIONS: dict[str, Any] = {
    "chunk_size": 1024,
    "batch_size": 16,
    "resident": 4,
    "crops_per_chunk": 64,
    "num_workers": 1,
}


def endless(loader: SmallChunkIterator) -> Iterator[dict[str, torch.Tensor]]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


def train(
    slides: Path,
    model: str = "resnet18",
    pretrained: bool = False,
    steps: int = 200,
    bfloat16: bool = False,
    **options: Any,
) -> list[float]:
    """The loss of each step; `options` are those of `BigChunkSource`."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = Dataset.from_folder(slides, label=lambda path: path.parent.name)
    network = timm.create_model(model, pretrained=pretrained, num_classes=len(dataset.classes))
    network = network.to(device, memory_format=torch.channels_last).train()
    config = timm.data.resolve_model_data_config(network)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    chosen = {**OPTIONS, "crop_size": config["input_size"][-1], **options}
    losses: list[float] = []
    with BigChunkSource(
        dataset, device="gpu" if device.type == "cuda" else "cpu", **chosen
    ) as source:
        precision = types.FLOAT16 if bfloat16 else types.FLOAT
        pipeline = classification(
            source,
            mean=config["mean"],
            std=config["std"],
            stain=0.15,
            dtype=precision,
            layout="HWC",
        )
        loader = SmallChunkIterator(pipeline, OUTPUTS)
        for _, batch in zip(range(steps), endless(loader), strict=False):
            image = batch["image"].permute(0, 3, 1, 2)  # a view: channels last
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = nn.functional.cross_entropy(network(image), batch["label"].flatten())
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    return losses


def main() -> None:
    """Train as the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("--model", default="resnet18", help="a name of timm.list_models()")
    parser.add_argument("--pretrained", action="store_true", help="download its weights")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    losses = train(
        arguments.slides,
        arguments.model,
        arguments.pretrained,
        arguments.steps,
        arguments.bfloat16,
    )
    for step in range(0, len(losses), max(len(losses) // 10, 1)):
        print(f"step {step}: loss {losses[step]:.3f}")
    print(f"last step: loss {losses[-1]:.3f}")


if __name__ == "__main__":
    main()
