"""TIFF files with pixels other than 8-bit RGB, read tile by tile: 16 bits, channels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tifffile
from defusedxml import ElementTree
from numpy.typing import NDArray

from pydmed_dali.errors import SlideFormatError, SlideReadError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.background import BLACK
from pydmed_dali.slide.codec.coded_size import claimed_size
from pydmed_dali.slide.file_identity import check_regular_file
from pydmed_dali.slide.limits import believable_mpp, scanned_mpp
from pydmed_dali.slide.pixel_format import PixelFormat
from pydmed_dali.slide.slide import SlideFacts

_CHANNEL_AXES = frozenset("CSYX")
_MICROMETRES = {"m": 1e6, "mm": 1e3, "cm": 1e4, "µm": 1.0, "um": 1.0, "nm": 1e-3}
_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # micrometres in an inch and in a centimetre


class ChannelTiff:
    """A TIFF or OME-TIFF whose channels are samples of a pixel, planes, or pages; a `Slide`.

    Levels are the file's pyramid, as tifffile finds it. Channels come in the file's order: of
    several pages, all samples of the first page first. Only tiles or strips that a region touches
    are read and decoded, by tifffile; one whose own header claims more than its size is refused
    before it is decoded. Beyond the edges, and where a tile is left out, there are zeros.
    Micrometres per pixel are those of the OME metadata, or else of the resolution tags.
    """

    def __init__(self, path: Path, pixel: PixelFormat) -> None:
        """Raises `SlideFormatError` for other files, and for pixels other than `pixel`."""
        check_regular_file(path)
        try:
            self._file = tifffile.TiffFile(path)
        except Exception as error:  # tifffile raises whatever a damaged file leads it to
            raise SlideFormatError(f"{path}: tifffile cannot open it ({error})") from error
        try:
            self.path = path
            self._levels = [_Level(list(level.pages)) for level in self._read_levels(pixel)]
            sizes = [level.size for level in self._levels]
            mpp, doubt = _ome_mpp(self._file), None
            if mpp is None:
                mpp, doubt = _tag_mpp(self._levels[0].keyframe)
            self.facts = SlideFacts(
                level_dimensions=tuple(sizes),
                level_downsamples=tuple(sizes[0].width / size.width for size in sizes),
                tile_sizes=tuple(level.cell for level in self._levels),
                mpp=mpp,
                objective_power=None,
                background=BLACK,
                background_reason="0 in every channel",
                vendor="ome-tiff" if self._file.is_ome else "tiff",
                reader=f"tifffile {tifffile.__version__}",
                remarks=() if doubt is None else (doubt,),
            )
        except SlideFormatError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise SlideFormatError(f"{path}: its directories cannot be read ({error})") from error

    def read_into(self, out: NDArray[Any], location: Point, level: int) -> None:
        """See `Slide.read_into`; beyond the edges there are zeros."""
        downsample = self.facts.level_downsamples[level]
        place = Point(round(location.x / downsample), round(location.y / downsample))
        out[:] = 0
        self._levels[level].read_into(out, place, self._file.filehandle)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _read_levels(self, pixel: PixelFormat) -> Sequence[Any]:
        series = self._file.series[0]
        found = dict(zip(series.axes, series.shape, strict=True))
        channels = math.prod(found[axis] for axis in "CS" if axis in found)
        odd = {axis: size for axis, size in found.items() if axis not in _CHANNEL_AXES and size > 1}
        if odd or (channels, series.dtype.name) != (pixel.channels, pixel.dtype):
            more = f" and axes {', '.join(f'{a}: {n}' for a, n in odd.items())}" if odd else ""
            raise SlideFormatError(
                f"{self.path}: it has {channels} x {series.dtype.name}{more}, and {pixel} was "
                "expected; give TiffLoader the PixelFormat of the files"
            )
        return list(series.levels)


class _Level:
    """The tiles, or strips, of one level: in each page, of each plane."""

    def __init__(self, pages: list[Any]) -> None:
        self._pages, self.keyframe = pages, pages[0].keyframe
        key = self.keyframe
        self.size = Size(int(key.imagewidth), int(key.imagelength))
        self.cell = (
            Size(int(key.tilewidth), int(key.tilelength))
            if key.is_tiled
            else Size(self.size.width, min(int(key.rowsperstrip), self.size.height))
        )
        self._columns = -(-self.size.width // self.cell.width)
        self._rows = -(-self.size.height // self.cell.height)
        separate = key.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        self._planes = int(key.samplesperpixel) if separate else 1
        self._samples = int(key.samplesperpixel) // self._planes

    def read_into(self, out: NDArray[Any], place: Point, file: Any) -> None:
        """Fill what of `out`, (height, width, channels) from `place` on, lies on the level."""
        bottom = min(place.y + out.shape[0], self.size.height)
        right = min(place.x + out.shape[1], self.size.width)
        top, left = max(place.y, 0), max(place.x, 0)
        if top >= bottom or left >= right:
            return
        for row in range(top // self.cell.height, (bottom - 1) // self.cell.height + 1):
            for column in range(left // self.cell.width, (right - 1) // self.cell.width + 1):
                y, x = row * self.cell.height, column * self.cell.width
                for channel, data in self._decoded(row, column, file):
                    ys = slice(max(y, top), min(y + data.shape[0], bottom))
                    xs = slice(max(x, left), min(x + data.shape[1], right))
                    target = out[
                        ys.start - place.y : ys.stop - place.y,
                        xs.start - place.x : xs.stop - place.x,
                        channel : channel + self._samples,
                    ]
                    target[:] = data[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]

    def _decoded(self, row: int, column: int, file: Any) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first channel, (height, width, samples)) of what lies at a place of the grid."""
        for number, page in enumerate(self._pages):
            for plane in range(self._planes):
                index = (plane * self._rows + row) * self._columns + column
                count = page.databytecounts[index]
                if not count:
                    continue
                file.seek(page.dataoffsets[index])
                data = file.read(count)
                self._check(data, index, file)
                decoded, _, shape = self.keyframe.decode(data, index, jpegtables=page.jpegtables)
                channel = (number * self._planes + plane) * self._samples
                yield channel, decoded[0, : shape[1], : shape[2]]

    def _check(self, data: bytes, index: int, file: Any) -> None:
        """Raise `SlideReadError` where a tile's own header claims more than the tile's size."""
        try:
            claimed = claimed_size(int(self.keyframe.compression), data)
        except ValueError as error:
            raise SlideReadError(
                f"{file.name}: tile {index} cannot be decoded ({error})"
            ) from error
        if claimed and (claimed.width > self.cell.width or claimed.height > self.cell.height):
            raise SlideReadError(
                f"{file.name}: tile {index} of a level of {self.size} claims {claimed} pixels, "
                f"where at most {self.cell} were expected; the file is damaged there"
            )


def _ome_mpp(file: Any) -> tuple[float, float] | None:
    """(x, y) of the first image of the OME metadata, if that tells it."""
    if not file.ome_metadata:
        return None
    for element in ElementTree.fromstring(file.ome_metadata).iter():
        if element.tag.rpartition("}")[2] != "Pixels":
            continue
        sizes = []
        for axis in "XY":
            unit = _MICROMETRES.get(element.get(f"PhysicalSize{axis}Unit", "µm"))
            sizes.append(float(element.get(f"PhysicalSize{axis}", 0)) * (unit or 0))
        return believable_mpp(sizes[0], sizes[1])
    return None


def _tag_mpp(page: Any) -> tuple[tuple[float, float] | None, str | None]:
    """(x, y) of the tags XResolution and YResolution, if their unit is a length and a scanner can
    have them, and what is wrong with them.
    """
    unit = _PER_UNIT.get(int(page.tags.valueof("ResolutionUnit", default=1)))
    sizes = []
    for name in ("XResolution", "YResolution"):
        above, below = page.tags.valueof(name, default=(0, 1))
        sizes.append(unit * below / above if unit and above and below else None)
    return scanned_mpp(sizes[0], sizes[1])
