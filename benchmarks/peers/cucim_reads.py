"""torch DataLoader + cuCIM on the CPU, one read per crop."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from cucim import CuImage

from benchmarks.crop_dataset import CropDataset, CropLoader
from benchmarks.peer import main
from benchmarks.places import SlideFile
from pydmed_dali.slide.slide import Pixels


class CuCIMCrops(CropDataset):
    """Reads without cuCIM's tile cache: random crops rarely find in it what they need."""

    def open_slide(self, slide: SlideFile) -> Any:
        """See `CropDataset`."""
        return CuImage(str(slide.path))

    def read(self, handle: Any, x: int, y: int) -> Pixels:
        """See `CropDataset`."""
        return np.asarray(handle.read_region((x, y), (self.crop, self.crop), 0))


if __name__ == "__main__":
    main(__doc__, partial(CropLoader, CuCIMCrops))
