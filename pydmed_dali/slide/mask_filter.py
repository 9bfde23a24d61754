"""What is done to masks and to the pixels behind them: in squares around each pixel, by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pydmed_dali.slide.mask_image import Mask

Number = TypeVar("Number", np.uint8, np.uint16, np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread: a worker has one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def near(mask: Mask, radius: int) -> Mask:
    """Whether any pixel is set in the square around, of 2 `radius` + 1 pixels."""
    return _as_mask(cv2.dilate(mask.view(np.uint8), _square(radius)))


def inside(mask: Mask, radius: int) -> Mask:
    """Whether all pixels are set in the square around; those beyond the border are."""
    return _as_mask(cv2.erode(mask.view(np.uint8), _square(radius)))


def closed(mask: Mask, radius: int) -> Mask:
    """Holes and gaps narrower than the square are filled; beyond the border nothing is set."""
    room = 2 * radius
    grown = cv2.dilate(np.pad(mask, room).view(np.uint8), _square(radius))
    shrunk = cv2.erode(grown, _square(radius))
    return _as_mask(shrunk[room:-room, room:-room])


def most(mask: Mask, radius: int) -> Mask:
    """Whether most pixels in the square around are set; beyond the border its pixels go on.

    `radius` is 1 or 2.
    """
    return _as_mask(cv2.medianBlur(mask.view(np.uint8), 2 * radius + 1))


def without_specks(mask: Mask, least: int) -> Mask:
    """Without pieces of fewer than `least` pixels."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    found = mask.copy()
    for piece in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least).tolist():
        x, y, width, height = stats[piece, :4].tolist()
        box = (slice(y, y + height), slice(x, x + width))
        found[box][pieces[box] == piece] = False
    return found


def mean(values: NDArray[Number], radius: int) -> NDArray[Number]:
    """Means over the squares around; beyond the border its pixels go on. Any number of channels."""
    side = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.blur(values, side, borderType=cv2.BORDER_REPLICATE), values.dtype)


def _square(radius: int) -> NDArray[np.uint8]:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _as_mask(bits: Any) -> Mask:
    return np.ascontiguousarray(bits, np.uint8).view(np.bool_)
