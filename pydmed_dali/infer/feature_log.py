"""Tiles of a slide that is not finished, on disk: whatever ends a run, they need not be run again.

A log that is only appended to: the slide's identity, and frames of tiles, each with its size and a
checksum. What ended a run may have cut the last one; it counts as not written.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.infer.collector import SlideFeatures
from pydmed_dali.slide.file_identity import FileIdentity, file_identity
from pydmed_dali.source.provenance import InfoColumn

logger = logging.getLogger("pydmed_dali.infer")

_HEAD = struct.Struct("<8sQQI")  # what it is, tiles, numbers of each, checksum
_MARK = b"pydmed-1"


@dataclass(frozen=True, slots=True, eq=False)
class LoggedTiles:
    """What is there of a slide, without the features."""

    identity: bytes
    """Of the slide's file."""
    width: int
    """K: numbers of each tile."""
    corners: NDArray[np.int64]
    """(n, 2): (x, y) of the tiles, each once, in level-0 pixels."""


class FeatureLog:
    """The log of one slide."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def append(self, part: SlideFeatures, slide: FileIdentity) -> bool:
        """Add tiles of a slide's file; whether that was possible.

        A disk that is full is told in the log: finished slides are what counts.
        """
        identity = identity_of(slide)
        body = part.rows.tobytes() + part.features.tobytes()
        head = _HEAD.pack(_MARK, *part.features.shape, zlib.crc32(body))
        try:
            with self._file.open("ab", buffering=0) as file:
                end = file.tell()
                left = memoryview((b"" if end else identity) + head + body)
                try:
                    while left:
                        left = left[file.write(left) :]
                except OSError:
                    file.truncate(end)  # what is appended later must not lie behind half a frame
                    raise
        except OSError as error:
            logger.warning("%s: tiles under way are not kept (%s)", self._file, error)
            return False
        return True

    def begun(self, slide: Path) -> LoggedTiles | None:
        """What is there of the file that lies at `slide` now, the log cut to it; None for nothing.

        The log of another file is removed; where no file is to be seen, it stays for when it is.
        """
        present = file_identity(slide)
        if present is None or not self._file.is_file():
            return None
        identity, parts, good = self._read(with_features=False)
        if not parts or identity != identity_of(present):
            self.remove()
            return None
        with suppress(OSError):  # another call may have finished the slide just now
            if self._file.stat().st_size > good:
                os.truncate(self._file, good)
        rows = np.concatenate([part.rows for part in parts])
        corners = np.unique(rows[:, [InfoColumn.X, InfoColumn.Y]], axis=0)
        return LoggedTiles(identity, parts[0].features.shape[1], corners)

    def load(self, slide: int) -> SlideFeatures | None:
        """All tiles, each once, as those of the slide of this number; None where there are none."""
        _, parts, _ = self._read(with_features=True)
        if not parts:
            return None
        found = SlideFeatures.joined(parts)
        found.rows[:, InfoColumn.SLIDE] = slide
        _, first = np.unique(found.rows[:, [InfoColumn.Y, InfoColumn.X]], axis=0, return_index=True)
        if len(first) == len(found.rows):
            return SlideFeatures(slide, found.features, found.rows)
        return SlideFeatures(slide, found.features[first], found.rows[first])

    def remove(self) -> None:
        """Forget the tiles: the slide is finished."""
        with suppress(OSError):
            self._file.unlink()

    def _read(self, with_features: bool) -> tuple[bytes, list[SlideFeatures], int]:
        """(identity, frames as far as they are whole and of one width, where the last one ends)."""
        parts: list[SlideFeatures] = []
        identity, good = b"", 0
        with suppress(OSError), self._file.open("rb") as file:
            identity = file.readline()
            good = file.tell()
            while (part := _frame(file, with_features)) is not None:
                if parts and part.features.shape[1] != parts[0].features.shape[1]:
                    break
                parts.append(part)
                good = file.tell()
        return identity, parts, good


def identity_of(found: FileIdentity) -> bytes:
    """A line that tells a slide's file from others, wherever it lies."""
    return f"{(found.size, found.mtime_ns, found.sample.hex())}\n".encode()


def _frame(file: IO[bytes], with_features: bool) -> SlideFeatures | None:
    """The next tiles; None where there is none that is whole. `SLIDE` is what it was then."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, tiles, width, checksum = _HEAD.unpack(head)
    middle, size = tiles * len(InfoColumn) * 8, tiles * (len(InfoColumn) * 8 + width * 4)
    if mark != _MARK or size > os.fstat(file.fileno()).st_size - file.tell():
        return None
    body = memoryview(file.read(size))
    if len(body) < size or zlib.crc32(body) != checksum:
        return None
    rows = np.frombuffer(body[:middle], np.int64).reshape(tiles, len(InfoColumn))
    features = np.frombuffer(body[middle:], np.float32).reshape(tiles, width)
    if not with_features:
        rows, features = rows.copy(), np.empty((0, width), np.float32)
    return SlideFeatures(0, features, rows)
