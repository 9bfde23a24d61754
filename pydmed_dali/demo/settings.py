"""What a demonstration is asked for, and the source that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pydmed_dali import BigChunkSource, Dataset, Stats
from pydmed_dali.errors import OptionError

_RESIDENT = 16
_CROPS_PER_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `pydmed-dali demo`."""

    out: Path
    """The folder for what is made."""
    steps: int
    """Batches to train on, or to stream."""
    seed: int = 0
    """Decides the synthetic slides, every crop and the network's first weights."""
    chunk_size: int = 2048
    """Side of a BigChunk in level-0 pixels."""
    crop_size: int = 224
    """Side of a SmallChunk in level-0 pixels."""
    batch_size: int = 64
    """SmallChunks in a batch."""
    num_workers: int | None = None
    """Loader processes; None for the source's default."""
    device: str = "auto"
    """Where crops are augmented: `auto`, `cpu` or `gpu`."""

    @property
    def picture(self) -> Path:
        """The file that the picture is written to."""
        return self.out / "demo.png"

    def make_folder(self) -> None:
        """Create `out` where it is missing; raises `OptionError` where that cannot be."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"out={str(self.out)!r} cannot be a folder ({error})") from error

    def source(self, dataset: Dataset, **options: Any) -> BigChunkSource:
        """A source of level-0 crops of `dataset`; `options` go before these settings."""
        chosen: dict[str, Any] = {
            "chunk_size": self.chunk_size,
            "crop_size": self.crop_size,
            "batch_size": self.batch_size,
            "resident": _RESIDENT,
            "crops_per_chunk": _CROPS_PER_CHUNK,
            "num_workers": self.num_workers,
            "seed": self.seed,
            "device": self._device(),
            "rank": 0,
            "world_size": 1,
        }
        return BigChunkSource(dataset, **{**chosen, **options})

    def summary(self, stats: Stats) -> str:
        """What was streamed, and how fast, in one line."""
        crop = f"{self.crop_size}x{self.crop_size}"
        return (
            f"{self.steps * self.batch_size:,} crops of {crop} pixels from {stats.chunks_read} "
            f"BigChunks of at most {self.chunk_size}x{self.chunk_size}; "
            f"{stats.crops_per_second:,.0f} crops/s, starved {stats.starved_fraction:.1%}"
        )

    def _device(self) -> str:
        """`auto` is the CPU where torch could not take the GPU's batches."""
        return "cpu" if self.device == "auto" and not torch.cuda.is_available() else self.device
