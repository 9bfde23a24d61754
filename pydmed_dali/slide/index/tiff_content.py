"""What a TIFF file holds: told where OpenSlide refuses it, or would show other than that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import tifffile

from pydmed_dali.errors import SlideFormatError
from pydmed_dali.geometry import Size
from pydmed_dali.slide.slide import SlideFacts

_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOADED = frozenset(("uint8", "int16", "uint16", "int32", "float32"))
"""Values that `TiffLoader` delivers."""
_COLOURS = {
    tifffile.PHOTOMETRIC.MINISWHITE: 1,
    tifffile.PHOTOMETRIC.MINISBLACK: 1,
    tifffile.PHOTOMETRIC.RGB: 3,
    tifffile.PHOTOMETRIC.PALETTE: 1,
    tifffile.PHOTOMETRIC.SEPARATED: 4,
    tifffile.PHOTOMETRIC.YCBCR: 3,
    tifffile.PHOTOMETRIC.CIELAB: 3,
}
"""Channels of a colour, which OpenSlide turns into RGB; a further one may be transparency."""
_UNSIGNED = (tifffile.SAMPLEFORMAT.UINT, tifffile.SAMPLEFORMAT.VOID)
_REDUCED, _MASK = tifffile.FILETYPE.REDUCEDIMAGE, tifffile.FILETYPE.MASK
_MOST_OFF = 0.02  # by which the proportions of a pyramid's level may differ from the slide's
_MOST_IMAGES = 1000  # that are looked at, of a file
_CONVERT = "`vips tiffsave FILE new.tif --tile --pyramid --compression jpeg --Q 90`"


@dataclass(frozen=True, slots=True)
class TiffContent:
    """What the directories of a TIFF file say of its first image."""

    size: Size
    """Extent of the first image, in pixels."""
    images: int
    """How many images of that size and type the file has: channels, focal planes or times."""
    samples: int
    """Values of a pixel of one image."""
    dtype: str
    """A value's type, by numpy's name; `unknown` where numpy has none."""
    coding: str
    """How tiles or strips are coded and laid out, in words."""
    is_shown: bool
    """Whether OpenSlide's RGB of 8 bits has all of the first image."""
    levels: tuple[Size, ...]
    """Smaller images of the same proportions: tiled ones, and those in SubIFDs."""
    in_subifds: bool
    """Whether such ones stand in SubIFDs."""

    @classmethod
    def of(cls, path: Path) -> TiffContent | None:
        """What the file at `path` holds; None where it is no TIFF, or cannot be understood."""
        try:
            with path.open("rb") as file:
                if file.read(4) not in _BEGINS:
                    return None
            with tifffile.TiffFile(path) as tiff:
                return _content(tiff)
        except Exception:  # tifffile raises whatever a malformed directory leads it to
            return None

    @property
    def pixels(self) -> str:
        """What a pixel has, in words: `3 x uint16`."""
        return f"{self.samples * self.images} x {self.dtype}"

    def __str__(self) -> str:
        images = "" if self.images == 1 else f" in {self.images} images"
        return f"a TIFF of {self.size} pixels of {self.pixels}{images}, {self.coding}"

    @property
    def reading(self) -> str:
        """What to do with such a file, in words."""
        rgb = (self.samples, self.dtype, self.images) == (3, "uint8", 1)
        convert = f"convert it, e.g. by {_CONVERT}" if rgb else "convert it to RGB of 8 bits"
        if self.dtype not in _LOADED:
            return convert
        loader = f"TiffLoader(PixelFormat({self.samples * self.images}, {self.dtype!r}))"
        return f"{convert}; or give a source loader={loader}, see docs/user_code.md"


def check_shown(path: Path, facts: SlideFacts) -> tuple[str, ...]:
    """Remarks on a slide that OpenSlide opened: what the file has beside what OpenSlide shows.

    Raises `SlideFormatError` where OpenSlide would show other pixels than the file has: 16 bits as
    8, or one channel of several.
    """
    content = TiffContent.of(path)
    if content is None or content.size != facts.dimensions:
        return ()
    has_channels = facts.vendor == "generic-tiff" and content.images > 1
    if not content.is_shown or (has_channels and content.samples == 1):
        raise SlideFormatError(
            f"{path}: it is {content}; OpenSlide would show RGB of 8 bits, and of images or "
            f"channels the first. {content.reading[0].upper()}{content.reading[1:]}"
        )
    return tuple(_remarks(content, facts)) if facts.vendor == "generic-tiff" else ()


def _remarks(content: TiffContent, facts: SlideFacts) -> Iterator[str]:
    if content.images > 1:
        yield f"the file has {content.images} images of the full size; the first one is read"
    unseen = [size for size in content.levels if size not in facts.level_dimensions]
    if unseen:
        where = "in SubIFDs" if content.in_subifds else "not marked as reduced images"
        yield (
            f"the file has levels that OpenSlide does not see ({', '.join(map(str, unseen))}: "
            f"{where}); tissue masks and coarser resolutions are made from finer levels, which can "
            f"take 40 times as long: convert it, e.g. by {_CONVERT}"
        )


def _content(tiff: tifffile.TiffFile) -> TiffContent:
    first: Any = tiff.pages.first
    pages: list[Any] = [page.keyframe for page in islice(tiff.pages, _MOST_IMAGES)]
    inner: list[Any] = list(first.pages or ()) if first.subifds else []
    others = [page for page in pages[1:] if not page.subfiletype & (_REDUCED | _MASK)]
    smaller = [page for page in pages[1:] if page.is_tiled and not page.subfiletype & _MASK]
    size, dtype = _size(first), "unknown" if first.dtype is None else first.dtype.name
    return TiffContent(
        size=size,
        images=1 + sum(page.hash == first.hash for page in others),
        samples=int(first.samplesperpixel),
        dtype=dtype,
        coding=_coding(first),
        is_shown=_is_shown(first),
        levels=tuple(each for each in map(_size, [*smaller, *inner]) if _is_level(each, size)),
        in_subifds=bool(inner),
    )


def _is_shown(page: Any) -> bool:
    """Whether OpenSlide's pixels are those of the page: of 8 bits at most, and a colour."""
    if not isinstance(page.bitspersample, int) or page.bitspersample > 8:
        return False
    if int(page.sampleformat) not in _UNSIGNED:
        return False
    more = int(page.samplesperpixel) - _COLOURS.get(page.photometric, 0)
    is_alpha = len(page.extrasamples) == 1 and page.extrasamples[0] in (1, 2)
    return more == 0 or (more == 1 and is_alpha)


def _is_level(size: Size, whole: Size) -> bool:
    across, down = whole.width / size.width, whole.height / size.height
    slack = 1 / min(size.width, size.height)
    return min(across, down) > 1 and abs(across / down - 1) <= _MOST_OFF + slack


def _coding(page: Any) -> str:
    name = str(getattr(page.compression, "name", page.compression))
    coding = "not compressed" if page.compression == tifffile.COMPRESSION.NONE else name
    cell = f"tiles of {page.tilewidth}x{page.tilelength}" if page.is_tiled else "strips"
    return f"{coding}, in {cell}"


def _size(page: Any) -> Size:
    return Size(int(page.imagewidth), int(page.imagelength))
