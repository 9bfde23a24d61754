"""Old results: the pdmcsv files of PyDmed's StreamWriter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import DatasetError
from pydmed_dali.geometry import Size

_HEAD = 10  # numbers of a line before the values


@dataclass(frozen=True, slots=True, eq=False)
class Pdmcsv:
    """What a file says of one slide, in the order of its lines."""

    places: NDArray[np.int64]
    """(n, 2): (x, y) of each patch's upper left corner, in pixels of the level that was read."""
    values: NDArray[np.float32]
    """(n, channels, height, width); NaN where the file has no number."""
    extent: Size
    """The slide, in pixels of that level."""
    level: int
    kernel_size: int
    """Side of a patch, in pixels of that level."""
    downsample: float
    """Level-0 pixels per pixel of that level."""


def read_pdmcsv(path: str | os.PathLike[str]) -> Pdmcsv:
    """Read a file that PyDmed's `Tensor3DtoPdmcsvrow` wrote line by line.

    A line has y, x, H, W (of the slide), level, kernel size, downsample, C, H, W (of the values),
    and C * H * W numbers, by commas (PyDmed, pydmed/extensions/wsi.py). Raises `DatasetError` for a
    file that holds no line, and for a line that is cut or differs from the first in more than place
    and values.
    """
    found: list[NDArray[np.float64]] = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if not line.strip():
            continue
        values = np.array([_number(word) for word in line.split(",")])
        sizes = values[7:_HEAD]
        if len(values) < _HEAD or not np.isfinite(values[:_HEAD]).all():
            raise DatasetError(f"{path}: line {number} does not begin with {_HEAD} numbers")
        if len(values) != _HEAD + int(sizes.prod()):
            raise DatasetError(
                f"{path}: line {number} has {len(values) - _HEAD} values, and says it has "
                f"{int(sizes.prod())}: it may have been cut; remove it to read the others"
            )
        if found and not np.array_equal(values[2:_HEAD], found[0][2:_HEAD]):
            raise DatasetError(f"{path}: line {number} is of another slide, level or shape")
        found.append(values)
    if not found:
        raise DatasetError(f"{path}: there is no line; a pdmcsv file has one for each patch")
    table = np.stack(found)
    _, _, height, width, level, kernel, downsample, *shape = table[0, :_HEAD].tolist()
    return Pdmcsv(
        places=table[:, 1::-1].astype(np.int64),
        values=table[:, _HEAD:].astype(np.float32).reshape(-1, *map(int, shape)),
        extent=Size(int(width), int(height)),
        level=int(level),
        kernel_size=int(kernel),
        downsample=downsample,
    )


def _number(word: str) -> float:
    """PyDmed takes what is no number, `None` among it, for one that is missing."""
    try:
        return float(word)
    except ValueError:
        return float("nan")
