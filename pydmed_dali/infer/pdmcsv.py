"""Old results: the pdmcsv files of PyDmed's StreamWriter."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import DatasetError
from pydmed_dali.geometry import Size
from pydmed_dali.text import printable

_HEAD = 10  # numbers of a line before the values
_DOWNSAMPLE = 6  # where among them the downsample is, which need not be whole
_LARGEST = 2**31 - 1


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
    shown = printable(path)
    found: list[NDArray[np.float64]] = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        values = np.array([_number(word) for word in line.split(",")])
        _check(values, f"{shown}: line {number}")
        if found and not np.array_equal(values[2:_HEAD], found[0][2:_HEAD]):
            raise DatasetError(f"{shown}: line {number} is of another slide, level or shape")
        found.append(values)
    if not found:
        raise DatasetError(f"{shown}: there is no line; a pdmcsv file has one for each patch")
    table = np.stack(found)
    _, _, height, width, level, kernel, downsample, *shape = table[0, :_HEAD].tolist()
    with np.errstate(over="ignore"):  # a number beyond float32 is infinite
        values = table[:, _HEAD:].astype(np.float32)
    return Pdmcsv(
        places=table[:, 1::-1].astype(np.int64),
        values=values.reshape(-1, *map(int, shape)),
        extent=Size(int(width), int(height)),
        level=int(level),
        kernel_size=int(kernel),
        downsample=downsample,
    )


def _lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DatasetError(f"{printable(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{printable(path)} is no text; a pdmcsv file is one") from error


def _check(values: NDArray[np.float64], line: str) -> None:
    """Raise where a line does not begin as it should, or has more or fewer values than it says."""
    head = values[:_HEAD].tolist()
    if len(head) < _HEAD or not np.isfinite(head).all():
        raise DatasetError(f"{line} does not begin with {_HEAD} numbers")
    whole = [number for place, number in enumerate(head) if place != _DOWNSAMPLE]
    if any(not number.is_integer() or abs(number) > _LARGEST for number in whole):
        raise DatasetError(
            f"{line} begins with {head}; all but the downsample must be whole numbers of at most "
            f"{_LARGEST}"
        )
    if min(*head[2:4], *head[5:]) <= 0 or head[4] < 0:
        raise DatasetError(
            f"{line} begins with {head}; sizes, kernel and downsample must be above 0, and the "
            "level at least 0"
        )
    said = math.prod(map(int, head[7:]))
    if len(values) != _HEAD + said:
        raise DatasetError(
            f"{line} has {len(values) - _HEAD} values, and says it has {said}: it may have been "
            "cut; remove it to read the others"
        )


def _number(word: str) -> float:
    """PyDmed takes what is no number, `None` among it, for one that is missing."""
    try:
        return float(word)
    except ValueError:
        return float("nan")
