"""The file of a slide's features, as readers of CLAM's files know it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import h5py
import numpy as np

from pydmed_dali.dali.info import Info
from pydmed_dali.infer.collector import SlideFeatures

_PICOMETRES = 1_000_000  # per micrometre


def to_hdf5(found: SlideFeatures, stride: tuple[float, float]) -> memoryview:
    """The bytes of the file; `features`, `coords` and attributes are named as CLAM has them.

    `stride`, (x, y), is from one tile to the next, in level-0 pixels. (M. Y. Lu et al.,
    "Data-efficient and weakly supervised computational pathology on whole-slide images", Nature
    Biomedical Engineering 5, 2021.) Made in memory: where the disk is full, HDF5 fails again and
    again while it is closed.
    """
    coords = found.rows[:, [Info.X, Info.Y]]
    row = {column: int(found.rows[0, column]) for column in Info}
    attributes: dict[str, Any] = {
        "patch_size": _side(row[Info.WIDTH], row[Info.HEIGHT]),
        "patch_size_level0": _side(row[Info.LEVEL0_WIDTH], row[Info.LEVEL0_HEIGHT]),
        "patch_level": row[Info.LEVEL],
        "stride_level0": np.array(stride),
    }
    if row[Info.MPP_PM]:
        attributes["mpp"] = row[Info.MPP_PM] / _PICOMETRES
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("features", data=found.features)
        file.create_dataset("coords", data=coords).attrs.update(attributes)
    return content.getbuffer()


def _side(width: int, height: int) -> Any:
    """A number where the sides are equal, as readers of CLAM's files expect; else (x, y)."""
    return width if width == height else np.array((width, height))
