"""Trains a small classifier with PyTorch Lightning, and resumes exactly from its checkpoints.

    python examples/train_lightning.py slides/ run/ --epochs 4

`slides/` has a folder of slides for each class. `run/last.ckpt` is written every few steps; run the
same command again, after whatever ended it, and it goes on as if it had never ended: crops and
their augmentation come as they would have come. With several devices each rank reads its own
share, and the checkpoint holds the place of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.demo.network import TissueNet
from pydmed_dali.pipelines.classification import classification

OPTIONS: dict[str, Any] = {"chunk_size": 512, "crop_size": 96, "batch_size": 16, "num_workers": 1}


class Tissue(LightningDataModule):
    """Crops for training, endless, and for validation, one visit of each slide."""

    def __init__(self, slides: Path, **options: Any) -> None:
        super().__init__()
        dataset = Dataset.from_folder(slides, label=lambda path: path.parent.name)
        self.parts = dataset.split({"training": 2 / 3, "validation": 1 / 3}, seed=0)
        self.options = {**OPTIONS, **options}
        self._sources: list[BigChunkSource] = []

    def setup(self, stage: str) -> None:
        """Open the sources, once Lightning has chosen the device of this process."""
        if self._sources or self.trainer is None:
            return
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(self.trainer.strategy.root_device)
        shared = {
            **self.options,
            "device": "gpu" if on_gpu else "cpu",
        }
        for name, kind in (
            ("training", {"resident": 4, "crops_per_chunk": 32}),
            ("validation", {"resident": 1, "crops_per_chunk": 32, "passes": 1}),
        ):
            self._sources.append(BigChunkSource(self.parts[name], **{**shared, **kind}))

    def train_dataloader(self) -> SmallChunkIterator:
        """Epochs in which every patient is visited about once."""
        return SmallChunkIterator(classification(self._sources[0]), all_ranks=True)

    def val_dataloader(self) -> SmallChunkIterator:
        """The same crops every time, as they are."""
        return SmallChunkIterator(classification(self._sources[1], augment=False))

    def teardown(self, stage: str) -> None:
        """End the loader processes."""
        while self._sources:
            self._sources.pop().close()

    def on_exception(self, exception: BaseException) -> None:
        """Lightning calls no `teardown` then."""
        self.teardown("exception")


class Classifier(LightningModule):
    """Tells the classes of tissue apart."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = TissueNet(classes)

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """The loss of one batch."""
        loss = nn.functional.cross_entropy(self.network(batch["image"]), batch["label"].flatten())
        self.log("loss", loss, batch_size=len(batch["image"]), prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        """The part of the crops that is told right."""
        right = self.network(batch["image"]).argmax(dim=1) == batch["label"].flatten()
        share = right.float().mean()
        self.log("right", share, batch_size=len(right), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), 1e-3)


def train(slides: Path, run: Path, steps_between: int = 20, **options: Any) -> Trainer:
    """Train, from the last checkpoint on where there is one; `options` are those of `Trainer`."""
    torch.manual_seed(0)
    data = Tissue(slides)
    saver = ModelCheckpoint(run, save_last=True, every_n_train_steps=steps_between)
    options = {"callbacks": [], "logger": False, **options}
    options["callbacks"] = [saver, *options["callbacks"]]
    trainer = Trainer(default_root_dir=run, **options)
    last = run / "last.ckpt"
    trainer.fit(
        Classifier(len(data.parts["training"].classes)),
        datamodule=data,
        ckpt_path=last if last.exists() else None,
        weights_only=True,  # plain values and tensors: nothing is unpickled
    )
    return trainer


def main() -> None:
    """Train as the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("run", type=Path, help="the folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--devices", type=int, default=1)
    arguments = parser.parse_args()
    train(arguments.slides, arguments.run, max_epochs=arguments.epochs, devices=arguments.devices)


if __name__ == "__main__":
    main()
