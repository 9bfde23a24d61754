"""Masks as other programs save them: palettes, transparency, labels, levels, and no mask at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pydmed_dali.errors import OptionError, SlideMaskError
from pydmed_dali.geometry import Size
from pydmed_dali.slide import tissue_mask
from pydmed_dali.slide.mask_image import MaskFile
from pydmed_dali.slide.slide import SlideFacts
from pydmed_dali.slide.tissue_mask import read_mask
from pydmed_dali.slide.tissue_values import GivenValues, TissueValues

TRUTH = np.zeros((32, 48), np.bool_)
TRUTH[:, :12] = True
ALPHA = np.where(TRUTH, np.uint8(255), np.uint8(0))
SHADES = ALPHA[..., None]
BLACK, RED, WHITE = (0, 0, 0), (255, 0, 0), (255, 255, 255)
LABELS = np.repeat(np.arange(4, dtype=np.uint8), 12)[None].repeat(32, axis=0)
"""0, 1, 2 and 3, a quarter of the image each; `TRUTH` is where it is 0."""


def _read(path: Path, values: GivenValues | None = None) -> NDArray[np.bool_]:
    facts = SlideFacts((Size(480, 320),), (1.0,), (None,), (0.5, 0.5), 20, WHITE, "any", "any")
    return read_mask(MaskFile.of(path, values), Path("slide.svs"), facts).pixels


def _rgba(colours: NDArray[Any], alpha: NDArray[np.uint8]) -> Image.Image:
    pixels = np.empty((*TRUTH.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = colours, alpha
    return Image.fromarray(pixels)


def _paletted(numbers: NDArray[Any], *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(numbers.astype(np.uint8))
    image.putpalette([value for colour in colours for value in colour])
    return image


def _clear(image: Image.Image, value: int) -> Image.Image:
    """With one value of a palette, or of grey, transparent."""
    image.info["transparency"] = value
    return image


SAME = {
    "white first in the palette": _paletted(~TRUTH, WHITE, BLACK),
    "black first in the palette": _paletted(TRUTH, BLACK, WHITE),
    "red first in the palette": _paletted(~TRUTH, RED, BLACK),
    "two blacks in the palette": _paletted(2 - 2 * TRUTH + LABELS % 2, RED, RED, BLACK, BLACK),
    "quantized": Image.fromarray(ALPHA).convert("RGB").quantize(2),
    "palette with a transparent black": _clear(_paletted(~TRUTH, WHITE, BLACK), 1),
    "palette with a transparent white": _clear(_paletted(~TRUTH, WHITE, WHITE), 1),
    "transparent, white everywhere": _rgba(np.full(3, 255), ALPHA),
    "transparent, black everywhere": _rgba(np.zeros(3), ALPHA),
    "transparent where it is black": _rgba(SHADES, ALPHA),
    "half transparent where it is red": _rgba((SHADES > 0) * np.array(RED), ALPHA // 2),
    "opaque": _rgba(SHADES, np.full_like(ALPHA, 255)),
    "grey, transparent": Image.fromarray(np.stack([np.full_like(ALPHA, 7), ALPHA], 2), "LA"),
    "grey with a transparent black": _clear(Image.fromarray(ALPHA), 0),
    "16 bits with a transparent black": _clear(Image.fromarray(ALPHA * np.uint16(257)), 0),
}


@pytest.mark.parametrize("name", SAME)
def test_colour_and_transparency_say_what_is_tissue(tmp_path: Path, name: str) -> None:
    SAME[name].save(tmp_path / "mask.png")
    np.testing.assert_array_equal(_read(tmp_path / "mask.png"), TRUTH)


@pytest.mark.parametrize("name", [n for n in SAME if "transparent" not in n or "every" in n])
def test_a_tiff_says_the_same(tmp_path: Path, name: str) -> None:
    SAME[name].save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(_read(tmp_path / "mask.tif"), TRUTH)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack", "compression": "zstd"},
        {"photometric": "minisblack", "tile": (16, 16), "dtype": np.uint16},
        {"photometric": "minisblack", "dtype": np.int32},
        {"photometric": "minisblack", "dtype": np.float32},
        {"photometric": "minisblack", "dtype": np.bool_},
        {"photometric": "miniswhite", "white": True},
    ],
)
def test_tiffs_of_many_kinds(tmp_path: Path, options: dict[str, Any]) -> None:
    white, dtype = options.pop("white", False), options.pop("dtype", np.uint8)
    pixels = (~ALPHA if white else ALPHA).astype(dtype)
    tifffile.imwrite(tmp_path / "mask.tif", pixels, **options)
    np.testing.assert_array_equal(_read(tmp_path / "mask.tif"), TRUTH)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("labels.png", r"several values beside 0 \(1 on 25\.0% of it, 2 on .*tissue_values=\[1\]"),
        ("labels.tif", r"several values beside 0 \(1 on"),
        ("no zero.png", r"several values beside 0 \(1 on .*, 2 on"),
        ("shades.png", r"several values .*\(75 from 10 to 84\).*tissue_values='43-84'"),
        ("colours.png", r"several colours beside black \(#.{6} on 25.0%.*_values=\['#"),
        ("colours.tif", r"several colours beside black"),
        ("no black.png", r"several colours beside black \(#00ff00 on"),
        ("picture.png", "more than 64 colours, as a picture"),
        ("contrary.png", "colour and transparency contradict"),
        ("stack.tif", r"several pictures \(axes .YX, \(3, 32, 48\)\)"),
        ("lab.tif", r"TIFF of 3 x uint8 \(CIELAB\)"),
        ("nothing.tif", "several values beside 0"),
    ],
)
def test_an_image_that_leaves_open_what_is_meant_is_refused(
    tmp_path: Path, name: str, words: str
) -> None:
    path = tmp_path / name
    colours = (BLACK, (0, 255, 0), RED, (0, 0, 255))
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    match name:
        case "labels.png":
            Image.fromarray(LABELS).save(path)
        case "labels.tif":
            tifffile.imwrite(path, LABELS)
        case "no zero.png":
            Image.fromarray(TRUTH + np.uint8(1)).save(path)
        case "shades.png":
            shades = 10 + np.arange(TRUTH.size, dtype=np.int64) % 75
            Image.fromarray(shades.astype(np.uint8).reshape(TRUTH.shape)).save(path)
        case "colours.png" | "colours.tif":
            _paletted(LABELS, *colours).save(path)
        case "no black.png":
            _paletted(TRUTH, *colours[1:]).save(path)
        case "picture.png":
            Image.fromarray(picture).save(path)
        case "contrary.png":
            _rgba(SHADES, 255 - ALPHA).save(path)
        case "stack.tif":
            tifffile.imwrite(path, np.stack([ALPHA] * 3), photometric="minisblack")
        case "lab.tif":
            tifffile.imwrite(path, picture, photometric="cielab")
        case "nothing.tif":
            tifffile.imwrite(path, np.where(TRUTH, np.nan, 0).astype(np.float32))
    with pytest.raises(SlideMaskError, match=words) as caught:
        _read(path)
    assert str(path) in str(caught.value) and "slide.svs" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("labels.png", [0]),
        ("labels.png", "0"),
        ("labels.png", ["#000000"]),
        ("labels.tif", {0}),
        ("colours.png", ["#00FF00"]),
        ("colours.tif", ["#00ff00"]),
        ("colours.tif", [0]),  # what a TIFF stores is a label, its palette says how to show it
        ("one bit.png", [1]),
        ("one bit.png", [255]),
        ("shades.png", range(128, 256)),
        ("shades.png", "128-255"),
        ("clear.png", "100-255"),
    ],
)
def test_values_that_are_named_are_tissue(tmp_path: Path, name: str, values: GivenValues) -> None:
    path = tmp_path / name
    colours = _paletted(LABELS, (0, 255, 0), RED, (0, 0, 255), WHITE)
    shades = np.where(TRUTH, 255 - LABELS * np.uint8(9), 127 - LABELS).astype(np.uint8)
    images = {
        "labels.png": Image.fromarray(LABELS),
        "labels.tif": Image.fromarray(LABELS),
        "colours.png": colours,
        "colours.tif": colours,
        "one bit.png": Image.fromarray(TRUTH),
        "shades.png": Image.fromarray(shades),
        "clear.png": _rgba(np.zeros(3), np.where(TRUTH, np.uint8(200), LABELS)),
    }
    images[name].save(path)
    np.testing.assert_array_equal(_read(path, values), TRUTH)


def test_numbers_of_a_palette_that_any_program_may_reorder_are_refused(tmp_path: Path) -> None:
    _paletted(LABELS, BLACK, RED, (0, 255, 0), WHITE).save(tmp_path / "mask.png")
    with pytest.raises(SlideMaskError, match=r"is coloured, and tissue_values='1'.*#ff0000"):
        _read(tmp_path / "mask.png", [1])


@pytest.mark.parametrize("kind", ["subifds", "pages"])
def test_of_a_pyramid_of_labels_a_fitting_level_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The first level that is not too large: its labels are as they were written."""
    levels = [np.repeat(np.repeat(LABELS, n, 0), n, 1) for n in (8, 4, 2)]
    levels[1][0, 0] = 3  # by which it is told
    with tifffile.TiffWriter(tmp_path / "mask.tif") as file:
        options: dict[str, Any] = {"tile": (32, 32), "photometric": "minisblack"}
        subifds = 2 if kind == "subifds" else None
        file.write(levels[0], subifds=subifds, metadata=None, **options)
        for level in levels[1:]:
            file.write(level, subfiletype=1, metadata=None, **options)
    monkeypatch.setattr(tissue_mask, "_MOST_READ", levels[1].size)
    np.testing.assert_array_equal(_read(tmp_path / "mask.tif", [0]), levels[1] == 0)
    monkeypatch.setattr(tissue_mask, "_MOST_READ", 100)
    with pytest.raises(SlideMaskError, match=r"96x64 pixels, more than 100; .*TIFF with levels"):
        _read(tmp_path / "mask.tif", [0])


def test_a_real_mask_with_levels_is_read(real_slides: Path) -> None:
    path = real_slides.with_name("more-slides") / "other/label-mask.tif"
    if not path.is_file():
        pytest.skip(f"no {path}")
    facts = SlideFacts((Size(8640, 8000),), (1.0,), (None,), None, None, WHITE, "any", "any")
    mask = read_mask(MaskFile(path), Path("slide.svs"), facts)
    assert mask.share == pytest.approx(316958 / (864 * 800))


@pytest.mark.parametrize("ending", ["jpg", "gif", "eps", "webp", "ppm"])
def test_other_formats_are_not_opened(tmp_path: Path, ending: str) -> None:
    Image.fromarray(ALPHA).save(tmp_path / f"mask.{ending}")
    with pytest.raises(SlideMaskError, match="is no PNG, TIFF or BMP image; save it as PNG"):
        _read(tmp_path / f"mask.{ending}")


def test_the_begin_of_a_file_says_its_format(tmp_path: Path) -> None:
    Image.fromarray(ALPHA).save(tmp_path / "mask.bmp")
    (tmp_path / "mask.bmp").rename(tmp_path / "mask.png")
    np.testing.assert_array_equal(_read(tmp_path / "mask.png"), TRUTH)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (320, 480), np.uint8)
    path = tmp_path / f"mask.{ending}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SlideMaskError, match=r"mask.* of slide\.svs cannot be read"):
        _read(path)


def test_a_huge_png_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Of a size at which Pillow warns, and of one at which it raises."""
    for side, words in ((9600, "more than 64,000,000"), (19200, "is too large; save it smaller")):
        Image.new("1", (side * 3 // 2, side)).save(tmp_path / "mask.png")
        with pytest.raises(SlideMaskError, match=words):
            _read(tmp_path / "mask.png")


@pytest.mark.parametrize(
    "given", [[], "", "1,", "red", "#ff", [-1], "-1", [True], [1.5], 3, "5-3", None]
)
def test_values_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="tissue_values="):
        TissueValues.of(given)


@given(st.sets(st.integers(0, 70), min_size=1), st.sets(st.integers(0, 0xFFFFFF)))
def test_values_hold_those_that_were_given(numbers: set[int], colours: set[int]) -> None:
    values = TissueValues.of([*numbers, *(f"#{colour:06x}" for colour in colours)])
    assert set(np.flatnonzero(values.hold(np.arange(100))).tolist()) == numbers
    assert set(values.colours) == colours
    assert TissueValues.of(str(values)) == values
