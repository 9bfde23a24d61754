"""The file of a slide's features, as readers of CLAM's files know it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import OptionError
from pydmed_dali.infer.collector import Features, SlideFeatures
from pydmed_dali.source.provenance import InfoColumn

_PICOMETRES = 1_000_000  # per micrometre
_CHUNK_BYTES = 1 << 24  # of features that a Zarr array keeps in one file


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFile:
    """What a file holds."""

    features: Features
    """(n_tiles, K)."""
    coords: NDArray[np.int64]
    """(n_tiles, 2): (x, y) of each tile's upper left corner, in level-0 pixels."""
    attributes: dict[str, Any]
    """Those of `coords`."""


def writer(file_format: str) -> Callable[[FeatureFile, Path], object]:
    """What writes files of a format, `h5` or `zarr`; raises `OptionError` for others."""
    if file_format not in _WRITERS:
        raise OptionError(f"file_format must be one of {', '.join(_WRITERS)}, not {file_format!r}")
    if file_format == "zarr" and find_spec("zarr") is None:
        raise OptionError("file_format='zarr' needs zarr: pip install -c constraints.txt '.[zarr]'")
    return _WRITERS[file_format]


def content_of(
    found: SlideFeatures, stride: tuple[float, float], slide: Mapping[str, str] | None = None
) -> FeatureFile:
    """What the file of a slide holds; `stride`, (x, y), is between tiles, in level-0 pixels.

    `slide` tells which one it is: see `folder.origin`.

    Attributes are named as CLAM and TRIDENT have them (M. Y. Lu et al., "Data-efficient and weakly
    supervised computational pathology on whole-slide images", Nature Biomedical Engineering 5,
    2021).
    """
    row = {column: int(found.rows[0, column]) for column in InfoColumn}
    attributes: dict[str, Any] = {
        "patch_size": _side(row[InfoColumn.WIDTH], row[InfoColumn.HEIGHT]),
        "patch_size_level0": _side(row[InfoColumn.LEVEL0_WIDTH], row[InfoColumn.LEVEL0_HEIGHT]),
        "patch_level": row[InfoColumn.LEVEL],
        "stride_level0": list(stride),
    }
    if row[InfoColumn.MPP_PM]:
        attributes["mpp"] = row[InfoColumn.MPP_PM] / _PICOMETRES
    attributes |= slide or {}
    return FeatureFile(found.features, found.rows[:, [InfoColumn.X, InfoColumn.Y]], attributes)


def read_features(path: str | os.PathLike[str]) -> FeatureFile:
    """Read what `predict` wrote of a slide."""
    if Path(path).suffix == ".zarr":
        import zarr

        group: Any = zarr.open_group(path, mode="r")
        attributes = dict(group["coords"].attrs)
        return FeatureFile(group["features"][:], group["coords"][:], attributes)
    with h5py.File(path) as file:
        coords = file["coords"]
        return FeatureFile(file["features"][()], coords[()], dict(coords.attrs))


def attribute_of(path: Path, name: str) -> str | None:
    """An attribute of `coords` that is text; None where there is none, or no such file."""
    try:
        if path.suffix == ".zarr":
            import zarr

            found = zarr.open_group(path, mode="r")["coords"].attrs.get(name)
        else:
            with h5py.File(path) as file:
                found = file["coords"].attrs.get(name)
    except Exception:  # of a library, at a file that is damaged in a way of its own
        return None
    return found if isinstance(found, str) else None


def _write_hdf5(content: FeatureFile, path: Path) -> None:
    """By way of memory: where the disk is full, HDF5 fails again and again while it is closed."""
    made = BytesIO()
    with h5py.File(made, "w") as file:
        file.create_dataset("features", data=content.features)
        file.create_dataset("coords", data=content.coords).attrs.update(content.attributes)
    path.write_bytes(made.getbuffer())


def _write_zarr(content: FeatureFile, path: Path) -> None:
    import zarr

    group: Any = zarr.open_group(path, mode="w-")
    count, width = content.features.shape
    rows = min(max(_CHUNK_BYTES // (4 * width), 1), count)
    group.create_array("features", data=content.features, chunks=(rows, width))
    coords = group.create_array("coords", data=content.coords, chunks=content.coords.shape)
    coords.attrs.update(content.attributes)


_WRITERS = {"h5": _write_hdf5, "zarr": _write_zarr}


def _side(width: int, height: int) -> Any:
    """A number where the sides are equal, as readers of CLAM's files expect; else (x, y)."""
    return width if width == height else [width, height]
