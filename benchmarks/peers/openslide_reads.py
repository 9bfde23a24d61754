"""torch DataLoader + OpenSlide, one read per crop."""

from __future__ import annotations

from functools import partial

import numpy as np
import openslide

from benchmarks.crop_dataset import CropDataset, CropLoader
from benchmarks.peer import main
from benchmarks.places import SlideFile
from pydmed_dali.slide.slide import Pixels


class OpenSlideCrops(CropDataset):
    """Reads as openslide-python's users do."""

    def open_slide(self, slide: SlideFile) -> openslide.OpenSlide:
        """See `CropDataset`."""
        return openslide.OpenSlide(slide.path)

    def read(self, handle: openslide.OpenSlide, x: int, y: int) -> Pixels:
        """See `CropDataset`."""
        return np.array(handle.read_region((x, y), 0, (self.crop, self.crop)).convert("RGB"))


if __name__ == "__main__":
    main(__doc__, partial(CropLoader, OpenSlideCrops))
