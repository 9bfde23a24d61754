"""What most training code does today: a torch DataLoader that reads each crop with OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import torch
from torch.utils.data import DataLoader, Dataset

from pydmed_dali.geometry import Size

_ENDLESS = 10**9


class OpenSlideCrops(Dataset[torch.Tensor]):
    """Crops, (height, width, 3) uint8, of random slides at random places of level 0.

    One OpenSlide read a crop; a worker keeps every slide open that it has read from. A slide that
    cannot be read is left out from then on; the last one's error is raised.
    """

    def __init__(self, paths: list[Path], crop: Size) -> None:
        self._paths, self._crop = list(paths), crop
        self._slides: dict[Path, openslide.OpenSlide] = {}

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> torch.Tensor:
        rng = np.random.default_rng(index)
        while True:
            path = self._paths[int(rng.integers(len(self._paths)))]
            try:
                return self._read(path, rng)
            except (openslide.OpenSlideError, OSError):
                self._paths.remove(path)
                if not self._paths:
                    raise

    def _read(self, path: Path, rng: np.random.Generator) -> torch.Tensor:
        slide = self._slides.get(path) or openslide.OpenSlide(path)
        self._slides[path] = slide
        sides = zip(slide.dimensions, (self._crop.width, self._crop.height), strict=True)
        x, y = (int(rng.integers(max(whole - side, 0) + 1)) for whole, side in sides)
        image = slide.read_region((x, y), 0, (self._crop.width, self._crop.height))
        return torch.from_numpy(np.array(image.convert("RGB")))


def openslide_loader(
    paths: list[Path], crop: Size, batch_size: int, num_workers: int
) -> DataLoader[torch.Tensor]:
    """The DataLoader, endless for all purposes; its workers end when its iterator is dropped."""
    return DataLoader(OpenSlideCrops(paths, crop), batch_size=batch_size, num_workers=num_workers)
