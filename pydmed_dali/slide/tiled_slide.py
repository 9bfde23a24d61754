"""The fast reader: decodes tiles of JPEG and JPEG 2000 itself, equal to OpenSlide to the bit."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from pydmed_dali.errors import SlideReadError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.slide.background import Background
from pydmed_dali.slide.codec.jpeg import DECODER, JpegTiles, OddTileError
from pydmed_dali.slide.codec.jpeg2000 import decode_jpeg2000
from pydmed_dali.slide.index.tiff import TiledLevel
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Pixels, SlideFacts
from pydmed_dali.slide.tile_pieces import CHANNELS, Integers, TilePieces, find_tile_pieces

READER = f"tifffile {tifffile.__version__} + {DECODER} + imagecodecs {imagecodecs.__version__}"
"""The reader's name and its libraries' versions: they decide pixels, so states keep them."""

_LARGEST_GAP = 1 << 16  # bytes between two tiles that are read through rather than skipped
_PIECE = 1 << 20  # bytes: of a longer piece the kernel fetches only the beginning
_LINE = 32  # bytes; see `scratch`


Lines = NDArray[np.uint8]
"""An image, (height, width * 3) uint8: the channels of a row's pixels one after another."""


class _Read(NamedTuple):
    """One region to be read."""

    out: Pixels
    location: Point
    """Where it begins, in level-0 pixels."""
    place: Point
    """The same in the level's own."""
    inside: Region
    """What of it lies inside the level, in the level's pixels; of no area if nothing."""


class TiledSlide:
    """A slide whose tiles are taken from the file directly; implements the `Slide` protocol.

    Every level delivers the file's own pixels: also where its downsample is no whole number, where
    OpenSlide shifts the level by a part of a pixel and interpolates (what it reads from the level's
    origin on, it does not shift: that is what this reader is equal to).

    A tile that cannot be decoded is left to OpenSlide, and is an error where that cannot either. A
    tile whose header claims other pixels than the level's tiles have is an error at once.
    """

    def __init__(self, path: Path, facts: SlideFacts, levels: tuple[TiledLevel, ...]) -> None:
        self._path = path
        self._facts = replace(facts, reader=READER, shifted_levels=frozenset())
        self._levels = levels
        self._decoders = [_decoder(level) for level in levels]
        self._scratches: dict[Size, Pixels] = {}
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> Path:
        """The file that was opened."""
        return self._path

    @property
    def facts(self) -> SlideFacts:
        """What the file says of itself, as OpenSlide tells it."""
        return self._facts

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        """See `Slide.read_into`."""
        self._refuse_others(out)
        self._carry_out([self._planned(out, location, level)], level)

    def read_parts(
        self, out: Pixels, parts: Sequence[Region], locations: Sequence[Point], level: int
    ) -> None:
        """Fill each of the `parts` of `out` as `read_into` would, from its location on.

        What of the file they need is asked for together: a disk serves some hundred requests a
        second, whatever their length.
        """
        self._refuse_others(out)
        reads = [
            self._planned(out[part.slices], location, level)
            for part, location in zip(parts, locations, strict=True)
        ]
        self._carry_out(reads, level)

    def read_crops(self, out: Pixels, places: Integers, level: int) -> int:
        """Fill the images of `out`, (n, height, width, 3) and contiguous, as `read_into` would.

        `places` is (n, 2), (y, x) of their upper left corners in the level's own pixels. A tile
        that several of them show is decoded once. Returns how many pixels all those tiles have.
        """
        self._refuse_others(out)
        self._fill_beyond(out, places, level)
        pieces = find_tile_pieces(places, Size(out.shape[2], out.shape[1]), self._levels[level])
        if not len(pieces.tile):
            return 0
        tiles, damaged = self._decode_pieces(out, pieces, level)
        downsample = self._facts.level_downsamples[level]
        for number in sorted(damaged):
            y, x = places[number].tolist()
            location = Point(round(x * downsample), round(y * downsample))
            self.read_into(out[number], location, level)
        return tiles * self._levels[level].tile.area

    def decode_into(self, out: Pixels, location: Point, level: int) -> None:
        """As `read_into`, without OpenSlide's help: raises whatever the decoder does."""
        self._decode(self._planned(out, location, level), level)

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _planned(self, out: Pixels, location: Point, level: int) -> _Read:
        downsample = self._facts.level_downsamples[level]
        place = Point(round(location.x / downsample), round(location.y / downsample))
        size = Size(out.shape[1], out.shape[0])
        return _Read(out, location, place, _cut(place, size, self._levels[level].dimensions))

    def _carry_out(self, reads: Sequence[_Read], level: int) -> None:
        tiles = self._levels[level]
        wanted = np.zeros((tiles.rows, tiles.columns), np.bool_)
        for read in reads:
            if read.inside.size.area:
                wanted[_touched(read.inside, tiles.tile)] = True
        self._announce(np.flatnonzero(wanted), tiles)
        for read in reads:
            try:
                self._decode(read, level)
            except Exception as error:  # the decoders raise whatever a damaged tile leads them to
                self._leave_to_openslide(read.out, read.location, level, error)

    def _announce(self, numbers: Integers, tiles: TiledLevel) -> None:
        """Have the kernel fetch the tiles of these numbers, in as few pieces as sensible: what lies
        between two of them is fetched too, where it is little.
        """
        if not len(numbers):
            return
        begins = tiles.offsets[numbers]
        order = np.argsort(begins)
        begins, ends = begins[order], (begins + tiles.counts[numbers])[order]
        gaps = np.flatnonzero(begins[1:] - ends[:-1] > _LARGEST_GAP)
        for begin, end in zip([begins[0], *begins[gaps + 1]], [*ends[gaps], ends[-1]], strict=True):
            for start in range(begin, end, _PIECE):
                length = min(_PIECE, end - start)
                os.posix_fadvise(self._descriptor, start, length, os.POSIX_FADV_WILLNEED)

    def _decode(self, read: _Read, level: int) -> None:
        inside, out = read.inside, read.out
        if (
            inside.location != read.place
            or (inside.size.height, inside.size.width) != out.shape[:2]
        ):
            out = out[_fill_around(out, read.place, inside, self._facts.background).slices]
        if inside.size.area:
            self._read_tiles(level, inside, out)

    def _read_tiles(self, level: int, region: Region, out: Pixels) -> None:
        """Fill `out` with `region` (the level's pixels), which lies inside the level."""
        tiles, decode = self._levels[level], self._decoders[level]
        x, y, tile = region.location.x, region.location.y, tiles.tile
        rows, columns = _touched(region, tile)
        lines, pixels = out.reshape(out.shape[0], -1, copy=False), self._scratch(tile)
        decoded = pixels.reshape(tile.height, -1)
        for row in range(rows.start, rows.stop):
            top = row * tile.height - y
            wanted = min(len(out) - top, tile.height)
            first = row * tiles.columns
            coded = self._fetch(tiles, slice(first + columns.start, first + columns.stop))
            for column, data in enumerate(coded, columns.start):
                decode(data, pixels, wanted)
                _place(decoded, Point(column * tile.width - x, top), lines)

    def _decode_pieces(self, out: Pixels, pieces: TilePieces, level: int) -> tuple[int, set[int]]:
        """Fill images with pieces of tiles: (how many tiles those are, the images of which one
        could not be decoded).
        """
        tiles, decode = self._levels[level], self._decoders[level]
        numbers, begins = np.unique(pieces.tile, return_index=True)
        self._announce(numbers, tiles)
        heights = np.maximum.reduceat(pieces.bottom, begins).tolist()
        lines, pixels = out.reshape(*out.shape[:2], -1, copy=False), self._scratch(tiles.tile)
        decoded = pixels.reshape(tiles.tile.height, -1)
        ends = [*begins[1:].tolist(), len(pieces.tile)]
        rows = np.stack(pieces[1:], axis=1).tolist()
        coded = zip(tiles.counts[numbers].tolist(), tiles.offsets[numbers].tolist(), strict=True)
        damaged: set[int] = set()
        for place, height, begin, end in zip(coded, heights, begins.tolist(), ends, strict=True):
            try:
                decode(memoryview(self._pread(*place)), pixels, height)
            except Exception:  # as in `_carry_out`
                damaged.update(image for image, *_ in rows[begin:end])
                continue
            for image, top, bottom, left, right, y, x in rows[begin:end]:
                target = lines[image, y : y + bottom - top, x : x + right - left]
                _copy_rows(decoded[top:bottom, left:right], target)
        return len(numbers), damaged

    def _fill_beyond(self, out: Pixels, places: Integers, level: int) -> None:
        """Fill what of images at `places` lies outside of the level with the background."""
        size, extent = Size(out.shape[2], out.shape[1]), self._levels[level].dimensions
        last = (extent.height - size.height, extent.width - size.width)
        for number in np.flatnonzero(((places < 0) | (places > last)).any(axis=1)).tolist():
            y, x = places[number].tolist()
            place = Point(x, y)
            _fill_around(out[number], place, _cut(place, size, extent), self._facts.background)

    def _refuse_others(self, out: Pixels) -> None:
        """Raise `SlideReadError` for memory of other pixels than a slide has."""
        if out.shape[-1] != CHANNELS or out.dtype != np.uint8:
            raise SlideReadError(
                f"{self._path}: its pixels are {CHANNELS} x uint8, and {out.shape[-1]} x "
                f"{out.dtype} were asked for; a loader with another pixel_format needs an "
                "extract_bigchunk, or slides, of its own"
            )

    def _fetch(self, tiles: TiledLevel, run: slice) -> list[memoryview]:
        """The coded bytes of neighbouring tiles: in one piece where they lie together."""
        offsets, counts = tiles.offsets[run].tolist(), tiles.counts[run].tolist()
        begin, end = min(offsets), max(map(operator.add, offsets, counts))
        if len(counts) == 1 or end - begin > sum(counts) + _LARGEST_GAP:
            return [memoryview(self._pread(*place)) for place in zip(counts, offsets, strict=True)]
        data = memoryview(self._pread(end - begin, begin))
        return [
            data[offset - begin : offset - begin + count]
            for offset, count in zip(offsets, counts, strict=True)
        ]

    def _pread(self, count: int, offset: int) -> bytes:
        read = os.pread(self._descriptor, count, offset)
        while len(read) < count:
            piece = os.pread(self._descriptor, count - len(read), offset + len(read))
            if not piece:
                raise OSError(f"the file ends {count - len(read)} bytes before the end of a tile")
            read += piece
        return read

    def _scratch(self, tile: Size) -> Pixels:
        """Memory for one decoded tile, which the next one is decoded into again."""
        if tile not in self._scratches:
            self._scratches[tile] = scratch(tile)
        return self._scratches[tile]

    def _leave_to_openslide(
        self, out: Pixels, location: Point, level: int, error: Exception
    ) -> None:
        """Read by OpenSlide what this reader could not, if the two agree on which pixels these are.

        Raises `SlideReadError` if they do not, if OpenSlide cannot read them either, or if a tile
        is of another kind: OpenSlide refuses most of these, and of some reads beyond their pixels.
        """
        is_shifted = not self._facts.level_downsamples[level].is_integer()
        if is_shifted or isinstance(error, OddTileError):
            raise SlideReadError(
                f"{self._path}: a tile of level {level} cannot be decoded, in "
                f"{out.shape[1]}x{out.shape[0]} pixels at ({location.x}, {location.y}) in level 0 "
                f"({error})"
            ) from error
        known = Background(self._facts.background, self._facts.background_reason)
        reference = OpenSlideSlide(self._path, known)
        try:
            reference.read_into(out, location, level)
        finally:
            reference.close()


def _decoder(level: TiledLevel) -> Callable[[memoryview, Pixels, int], object]:
    """What decodes a tile of the level into memory of the tile's size: so many rows at least."""
    if level.jpeg_space is not None:
        return JpegTiles(level.jpeg_tables, level.jpeg_space).decode
    return decode_jpeg2000


def _cut(place: Point, size: Size, dimensions: Size) -> Region:
    """What of a region of `size` at `place` lies inside `dimensions`; of no area if nothing."""
    left, top = max(place.x, 0), max(place.y, 0)
    right = min(place.x + size.width, dimensions.width)
    bottom = min(place.y + size.height, dimensions.height)
    return Region(Point(left, top), Size(max(right - left, 0), max(bottom - top, 0)))


def _touched(region: Region, tile: Size) -> tuple[slice, slice]:
    """Rows and columns of the tiles that a region inside the level touches."""
    rows, columns = region.slices
    return (
        slice(rows.start // tile.height, (rows.stop - 1) // tile.height + 1),
        slice(columns.start // tile.width, (columns.stop - 1) // tile.width + 1),
    )


def _fill_around(
    out: Pixels, place: Point, inside: Region, background: tuple[int, int, int]
) -> Region:
    """Fill what of an image at `place` lies outside of `inside` (the level's pixels; all, where
    that has no area). Returns where in the image the rest is.

    Only that: numpy takes as long to fill a chunk with a colour as the decoder for its tiles.
    """
    within = Region(_less(inside.location, place), inside.size)
    rows, columns = within.slices if inside.size.area else (slice(0, 0), slice(0, 0))
    out[: rows.start] = background
    out[rows.stop :] = background
    out[rows, : columns.start] = background
    out[rows, columns.stop :] = background
    return within


def _less(point: Point, other: Point) -> Point:
    return Point(point.x - other.x, point.y - other.y)


def _place(tile: Lines, corner: Point, lines: Lines) -> None:
    """Copy a tile to `corner` of an image, in pixels, cut to it; `corner` may lie outside.

    Rows are copied as one element each, which numpy does a quarter faster than bytes.
    """
    (height, width), left, top = tile.shape, corner.x * CHANNELS, corner.y
    target = lines[max(top, 0) : top + height, max(left, 0) : left + width]
    if target.shape != tile.shape:
        rows, length = target.shape
        tile = tile[max(-top, 0) :, max(-left, 0) :][:rows, :length]
    _copy_rows(tile, target)


def _copy_rows(source: Lines, target: Lines) -> None:
    whole_row = f"V{target.shape[1]}"
    np.copyto(target.view(whole_row), source.view(whole_row))


def scratch(tile: Size) -> Pixels:
    """Memory for one decoded tile, half a line off a border of lines.

    Where rows begin on such borders, libjpeg-turbo converts colours with stores that go around the
    caches, so that copying the tile to its place must fetch it from memory: docs/decisions/0007.
    """
    size = tile.area * 3
    whole = np.empty(size + 2 * _LINE, np.uint8)
    start = -whole.ctypes.data % _LINE + _LINE // 2
    return whole[start : start + size].reshape(tile.height, tile.width, 3)
