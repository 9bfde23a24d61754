"""Images that users give as tissue masks: what is in the file, and what of it is tissue.

PNG and BMP are read by Pillow, TIFF by tifffile, which knows levels; no other format is opened.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pydmed_dali.geometry import Size
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.slide.tissue_values import GivenValues, TissueValues
from pydmed_dali.text import shorten_list

if TYPE_CHECKING:
    import tifffile

Mask = NDArray[np.bool_]
"""(rows, columns) bool: True where there is tissue."""

VERSION = 2
"""Of the rules by which an image is read: what follows from a mask is of one of them."""

_FORMATS = ("PNG", "BMP")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_COLOURS = 64
"""Colours that are told apart: an image of more shows something, and is no mask."""
_SAME_SHAPE = 0.02


class UnfitImageError(Exception):
    """An image cannot serve as a mask; the message goes on after its name."""


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A tissue mask of the user's."""

    path: Path
    values: TissueValues | None = None
    """Which values are tissue; None where what is not black is, and there is one such value."""
    frame: str = "auto"
    """What it covers: one of `FRAMES`."""

    @classmethod
    def of(cls, path: Path, tissue_values: GivenValues | None, frame: str = "auto") -> MaskFile:
        """With the values and the frame as a user gives them."""
        values = None if tissue_values is None else TissueValues.of(tissue_values)
        return cls(path, values, check_frame(frame))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class MaskPixels:
    """What an image holds: numbers, colours, or numbers that stand for colours."""

    numbers: NDArray[Any] | None
    """(rows, columns); None where there are colours alone."""
    colours: NDArray[np.uint8] | None = None
    """(rows, columns, 3) RGB; None where there are numbers alone."""
    alpha: NDArray[np.unsignedinteger[Any]] | None = None
    """(rows, columns): 0 where the image is transparent, the type's highest where it is opaque."""

    def tissue(self, values: TissueValues | None) -> Mask:
        """(rows, columns): where there is tissue.

        Where all has one colour, how opaque it is says what is tissue. Raises `UnfitImageError`
        where the image leaves open what is meant.
        """
        alpha = self.alpha
        if alpha is None or alpha.min() == np.iinfo(alpha.dtype).max:
            return self._chosen(values)
        if self._is_uniform():
            return MaskPixels(alpha)._chosen(values)
        found = self._chosen(values)
        if (found & (alpha == 0)).any():
            raise UnfitImageError(
                "has transparent pixels whose colour is that of tissue, so that colour and "
                "transparency contradict each other; save it without transparency"
            )
        return found

    def _is_uniform(self) -> bool:
        values = self.numbers if self.colours is None else self.colours
        assert values is not None
        return bool((values == values[0, 0]).all())

    def _chosen(self, values: TissueValues | None) -> Mask:
        """By the colours, or where there are none by the numbers."""
        if values is not None:
            return self._named(values)
        if self.colours is not None and (grey := _as_grey(self.colours)) is None:
            _refuse_several(_colour_counts(self.colours), "colours")
            return cast(Mask, self.colours.any(axis=2))
        numbers = self.numbers if self.colours is None else grey
        assert numbers is not None
        _refuse_several(_number_counts(numbers), "values")
        return cast(Mask, numbers != 0)

    def _named(self, values: TissueValues) -> Mask:
        """By values that the user named: colours in any image, numbers where it has them."""
        numbers = self.numbers
        if numbers is None:
            assert self.colours is not None
            numbers = _as_grey(self.colours)
        if numbers is None and values.spans:
            raise UnfitImageError(
                f"is coloured, and tissue_values={str(values)!r} names numbers; name its colours: "
                + shorten_list([_colour_name(colour) for colour in _colour_counts(self.colours)])
            )
        found = np.zeros(_shape(self), np.bool_)
        if numbers is not None:
            if numbers.dtype == np.bool_ and values.hold(np.array(1)):
                found |= cast(Mask, numbers)  # 1 is what 255 is in an image of 8 bits
            found |= values.hold(_as_bytes(numbers))
        colours = self.colours
        for colour in values.colours:
            if colours is None:  # of numbers, a colour is a grey one
                red, green, blue = colour >> 16, colour >> 8 & 255, colour & 255
                assert numbers is not None
                if red == green == blue:
                    found |= _as_bytes(numbers) == red
            else:
                wanted = np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint8)
                found |= (colours == wanted).all(axis=2)
        return found


class MaskImage(ABC):
    """An open image; a context manager."""

    size: Size
    """Of what `read` returns, which covers all of the image."""

    @abstractmethod
    def read(self) -> MaskPixels:
        """All its pixels. May raise whatever a decoder raises at a damaged file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> MaskImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_mask_image(path: Path, most: int) -> MaskImage:
    """Open an image; of a TIFF with levels, the finest with at most `most` pixels.

    Raises `UnfitImageError` for other formats than PNG, TIFF and BMP, and what Pillow and tifffile
    raise for files that are damaged.
    """
    with path.open("rb") as file:
        begin = file.read(4)
    return _TiffImage(path, most) if begin in _TIFF else _PillowImage(path)


class _PillowImage(MaskImage):
    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                self._image = Image.open(path, formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise UnfitImageError("is no PNG, TIFF or BMP image; save it as PNG") from error
        except Image.DecompressionBombError as error:
            raise UnfitImageError(f"is too large; save it smaller ({error})") from error
        self.size = Size(*self._image.size)

    def read(self) -> MaskPixels:
        image = self._image
        if image.mode == "I;16" and "transparency" in image.info:  # which Pillow does not convert
            numbers = np.asarray(image)
            clear = numbers == image.info["transparency"]
            return MaskPixels(numbers, alpha=np.where(clear, np.uint8(0), np.uint8(255)))
        if image.has_transparency_data:
            pixels = np.asarray(image.convert("RGBA"))
            return MaskPixels(None, pixels[:, :, :3], pixels[:, :, 3])
        if image.mode in ("P", "RGB"):
            return MaskPixels(None, np.asarray(image.convert("RGB")))
        return MaskPixels(np.asarray(image))

    def close(self) -> None:
        self._image.close()


class _TiffImage(MaskImage):
    def __init__(self, path: Path, most: int) -> None:
        import tifffile

        self._file = tifffile.TiffFile(path)
        try:
            levels = _levels(self._file)
            sizes = [Size(page.imagewidth, page.imagelength) for page in levels]
            fitting = (n for n, size in enumerate(sizes) if size.area <= most)
            number = next(fitting, len(levels) - 1)
            self._page, self.size = levels[number], sizes[number]
        except BaseException:
            self._file.close()
            raise

    def read(self) -> MaskPixels:
        page = self._page
        pixels = page.asarray()
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, 2)
        pixels = pixels.reshape(self.size.height, self.size.width, -1)
        extra = len(page.extrasamples)
        alpha = pixels[:, :, -1] if extra else None
        values = pixels[:, :, : pixels.shape[2] - extra]
        kind = getattr(page.photometric, "name", str(page.photometric))
        unsigned = alpha is None or alpha.dtype in (np.uint8, np.uint16)
        if kind in ("RGB", "YCBCR") and values.shape[2] == 3 and pixels.dtype == np.uint8:
            return MaskPixels(None, values, alpha)  # tifffile makes RGB of YCbCr
        if values.shape[2] == 1 and extra <= 1 and unsigned:
            numbers = values[:, :, 0]
            if kind == "PALETTE" and page.colormap is not None:
                return MaskPixels(numbers, _palette(page.colormap)[numbers], alpha)
            if kind == "MINISBLACK":
                return MaskPixels(numbers, None, alpha)
            if kind == "MINISWHITE" and numbers.dtype in (np.bool_, np.uint8, np.uint16):
                return MaskPixels(~numbers, None, alpha)
        raise UnfitImageError(
            f"is a TIFF of {pixels.shape[2]} x {pixels.dtype} ({kind}), which is no way to tell "
            "tissue; save it with one channel"
        )

    def close(self) -> None:
        self._file.close()


def _levels(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pages that show the image, the finest first."""
    series = file.series[0]
    others = [axis for axis, length in zip(series.axes, series.shape, strict=True) if length > 1]
    if set(others) - set("YXS"):
        raise UnfitImageError(
            f"holds several pictures (axes {series.axes}, {series.shape}); save the one that is "
            "the mask"
        )
    first = series.levels[0].keyframe
    levels = [level.keyframe for level in series.levels]
    if len(levels) == 1:  # a pyramid of pages that only say that they are reduced
        levels += [page for page in map(_whole, file.pages[1:]) if _is_level(page, first)]
    return sorted(levels, key=lambda page: -page.imagewidth * page.imagelength)


def _whole(page: Any) -> tifffile.TiffPage:
    return cast("tifffile.TiffPage", page.aspage() if hasattr(page, "aspage") else page)


def _is_level(page: tifffile.TiffPage, first: tifffile.TiffPage) -> bool:
    """Whether a page shows the first one smaller."""
    ratio = page.imagewidth * first.imagelength / (page.imagelength * first.imagewidth)
    return (
        bool(page.subfiletype & 1)
        and page.dtype == first.dtype
        and page.samplesperpixel == first.samplesperpixel
        and abs(ratio - 1) <= _SAME_SHAPE + 1 / min(page.imagewidth, page.imagelength)
    )


def _palette(colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(numbers, 3) RGB of a TIFF's palette, which has 16 bits."""
    eight: NDArray[np.uint8] = (colormap >> 8).astype(np.uint8)
    return np.ascontiguousarray(eight.T)


def _as_grey(colours: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The numbers of colours that are all grey; None where one is not."""
    grey = colours[:, :, 0]
    same = (grey == colours[:, :, 1]).all() and (grey == colours[:, :, 2]).all()
    return grey if same else None


def _as_bytes(numbers: NDArray[Any]) -> NDArray[Any]:
    """An image of one bit as what it shows, black and white."""
    return numbers * np.uint8(255) if numbers.dtype == np.bool_ else numbers


def _shape(pixels: MaskPixels) -> tuple[int, int]:
    values = pixels.numbers if pixels.colours is None else pixels.colours
    assert values is not None
    return values.shape[0], values.shape[1]


def _number_counts(numbers: NDArray[Any]) -> dict[float, float]:
    """The part of the image that each value covers."""
    if numbers.dtype == np.uint8:
        counts = np.bincount(numbers.ravel(), minlength=256)
        values: NDArray[Any] = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), (counts / numbers.size).tolist(), strict=True))


def _colour_counts(colours: NDArray[np.uint8] | None) -> dict[int, float]:
    """The part of the image that each colour, 0xRRGGBB, covers; empty where there are too many."""
    assert colours is not None
    found = Image.fromarray(np.ascontiguousarray(colours)).getcolors(_MOST_COLOURS) or []
    area = colours.shape[0] * colours.shape[1]
    counts = {}
    for count, colour in sorted(found, key=lambda pair: -pair[0]):
        red, green, blue = cast("tuple[int, int, int]", colour)
        counts[red << 16 | green << 8 | blue] = count / area
    return counts


def _colour_name(colour: int) -> str:
    return f"#{colour:06x}"


def _refuse_several(parts: dict[Any, float], kind: str) -> None:
    """Raise `UnfitImageError` where more than one value, or colour, beside black is there."""
    named = {value: part for value, part in parts.items() if value != 0}
    if not parts:
        raise UnfitImageError(
            f"has more than {_MOST_COLOURS} colours, as a picture; save a mask of two, black and "
            "white"
        )
    if len(named) <= 1 and all(value == value for value in named):  # a NaN is not itself
        return
    shown = {_colour_name(v) if kind == "colours" else f"{v:g}": p for v, p in named.items()}
    told = shorten_list([f"{name} on {part:.1%} of it" for name, part in shown.items()])
    example: object = [next(iter(shown)) if kind == "colours" else min(named)]
    if kind == "values" and len(named) > _MOST_COLOURS:
        told = f"{len(named)} from {min(named):g} to {max(named):g}"
        example = f"{max(named) // 2 + 1:.0f}-{max(named):.0f}"
    raise UnfitImageError(
        f"has several {kind} beside {'black' if kind == 'colours' else '0'} ({told}), and what is "
        f"meant is not said: name those that are tissue, e.g. tissue_values={example!r}, or save "
        "it with two, 0 and 255"
    )
