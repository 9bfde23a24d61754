"""Writes TIFF files that claim whatever they are told to; their directories come first."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile

_TYPES = {"s": 2, "H": 3, "I": 4}
WIDTH, LENGTH, OFFSETS, COUNTS = 256, 257, 324, 325
TILE_WIDTH, TILE_LENGTH = 322, 323


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a directory."""

    kind: str
    """`H` for 16 bits, `I` for 32 bits, `s` for text."""
    values: Sequence[int] | bytes
    count: int | None = None
    """What the entry claims to hold, instead of the number of values."""

    @property
    def data(self) -> bytes:
        """The values as they lie in the file."""
        if isinstance(self.values, bytes):
            return self.values
        return struct.pack(f"<{len(self.values)}{self.kind}", *self.values)


Tags = Mapping[int, Tag]


def short(*values: int) -> Tag:
    """A tag of 16-bit numbers."""
    return Tag("H", values)


def long(*values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag("I", values)


def tiff_bytes(levels: Sequence[Tags], tiles: Sequence[Sequence[bytes]]) -> bytes:
    """A little-endian TIFF: header, directories, their values; then tiles, of the last level first.

    The tiles' places and lengths are filled in, unless the level has such tags already.
    """
    place = 8 + sum(
        _length(_with_places(tags, [(0, 0)] * len(level)))
        for tags, level in zip(levels, tiles, strict=True)
    )
    full = []
    for tags, level in zip(reversed(levels), reversed(tiles), strict=True):
        starts = [place + sum(map(len, level[:n])) for n in range(len(level))]
        full.append(_with_places(tags, list(zip(starts, map(len, level), strict=True))))
        place += sum(map(len, level))
    body, position = b"", 8
    for number, tags in enumerate(reversed(full), start=1):
        end = position + _length(tags)
        body += _directory(tags, position, end if number < len(full) else 0)
        position = end
    data = b"".join(tile for level in reversed(tiles) for tile in level)
    return struct.pack("<2sHI", b"II", 42, 8) + body + data


def directories_first(path: Path) -> bytes:
    """The tiled levels of a JPEG slide again, as in a file that is made to be streamed."""
    levels: list[Tags] = []
    tiles: list[list[bytes]] = []
    kept = {WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH, 258, 259, 262, 277, 284}
    with tifffile.TiffFile(path) as file, path.open("rb") as data:
        for page in file.pages:
            assert isinstance(page, tifffile.TiffPage)
            if not page.is_tiled:
                continue
            tags = {code: _tag(page.tags[code].value) for code in kept if code in page.tags}
            tags[254] = long(int(bool(levels)))
            if page.jpegtables:
                tags[347] = Tag("s", page.jpegtables)
            level = []
            for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
                data.seek(start)
                level.append(data.read(length))
            levels.append(tags)
            tiles.append(level)
    return tiff_bytes(levels, tiles)


def _tag(value: int | tuple[int, ...]) -> Tag:
    values = value if isinstance(value, tuple) else (int(value),)
    return Tag("I" if max(values) >= 2**16 else "H", values)


def _with_places(tags: Tags, places: Sequence[tuple[int, int]]) -> Tags:
    own = {OFFSETS: long(*(p for p, _ in places)), COUNTS: long(*(n for _, n in places))}
    return dict(sorted({**own, **tags}.items()))


def _length(tags: Tags) -> int:
    outside = sum(len(t.data) + len(t.data) % 2 for t in tags.values() if len(t.data) > 4)
    return 6 + 12 * len(tags) + outside


def _directory(tags: Tags, position: int, following: int) -> bytes:
    """A directory with its values behind it; `following` is the place of the next one."""
    entries, outside = struct.pack("<H", len(tags)), b""
    behind = position + 6 + 12 * len(tags)
    for code, tag in tags.items():
        data = tag.data
        if len(data) > 4:
            outside += data + b"\0" * (len(data) % 2)
            data = struct.pack("<I", behind + len(outside) - len(data) - len(data) % 2)
        size = 1 if tag.kind == "s" else struct.calcsize(tag.kind)
        count = len(tag.data) // size if tag.count is None else tag.count
        kind = 7 if code == 347 else _TYPES[tag.kind]
        entries += struct.pack("<HHI4s", code, kind, count, data)
    return entries + struct.pack("<I", following) + outside
