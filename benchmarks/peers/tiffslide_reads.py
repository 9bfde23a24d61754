"""torch DataLoader + tiffslide, one read per crop."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tiffslide

from benchmarks.crop_dataset import CropDataset, CropLoader
from benchmarks.peer import main
from benchmarks.places import SlideFile
from pydmed_dali.slide.slide import Pixels


class TiffSlideCrops(CropDataset):
    """Reads into arrays, tiffslide's shortest way."""

    def open_slide(self, slide: SlideFile) -> Any:
        """See `CropDataset`."""
        return tiffslide.TiffSlide(slide.path)

    def read(self, handle: Any, x: int, y: int) -> Pixels:
        """See `CropDataset`."""
        pixels = handle.read_region((x, y), 0, (self.crop, self.crop), as_array=True)
        return np.ascontiguousarray(pixels)


if __name__ == "__main__":
    main(__doc__, partial(CropLoader, TiffSlideCrops))
