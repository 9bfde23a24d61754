"""The truth about damaged slides: OpenSlide, freshly opened for every crop, in other processes.

Where OpenSlide refuses a JPEG tile for damage that libjpeg only warns of, what libjpeg makes of it:
whether that may be delivered depends on the rows that a crop takes.

A program, `python reference.py REQUEST.json OUT`, so that nothing a damaged file does to OpenSlide
can reach the tests. Each slide has a process of its own, which may crash or hang.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

Places = Sequence[tuple[int, int]]
"""(x, y) of each crop's top left corner, in level-0 pixels."""

_SECONDS = 20.0
_TOO_FEW = 34  # rows of a tile: to leave out fewer is not tried


def read_freshly(
    slides: Mapping[Path, Places], side: int, folder: Path
) -> dict[Path, NDArray[np.uint8] | str]:
    """(n, side, side, 3) crops of each slide at level 0, or why OpenSlide could not read them."""
    folder.mkdir()
    request = folder / "request.json"
    request.write_text(json.dumps([side, [[str(path), slides[path]] for path in slides]]))
    subprocess.run([sys.executable, __file__, str(request), str(folder)], check=True, timeout=600)
    return {path: _answer(folder / str(number)) for number, path in enumerate(slides)}


def _answer(stem: Path) -> NDArray[np.uint8] | str:
    words = stem.with_suffix(".txt")
    if words.exists():
        return words.read_text()
    pixels: NDArray[np.uint8] = np.load(stem.with_suffix(".npy"))
    return pixels


def _read(path: str, places: Places, side: int) -> NDArray[np.uint8]:
    crops = np.empty((len(places), side, side, 3), np.uint8)
    for crop, (x, y) in zip(crops, places, strict=True):
        try:
            crop[:] = _strictly(path, x, y, side, side)
        except openslide.OpenSlideError as error:
            if "Corrupt JPEG data" not in str(error):
                raise
            crop[:] = _above_damage(path, x, y, side)
    return crops


def _strictly(path: str, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    with openslide.OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region((x, y), 0, (width, height))).astype(np.uint16)
    alpha = rgba[..., 3:]
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _above_damage(path: str, x: int, y: int, side: int) -> NDArray[np.uint8]:
    """What libjpeg makes of tiles of which the crop takes upper rows; OpenSlide's of all others."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert isinstance(page, tifffile.TiffPage)
        width, length = page.tilewidth, page.tilelength
        first, columns = x // width, -(-page.imagewidth // width)
        strips = []
        for row in range(y // length, (y + side - 1) // length + 1):
            top, bottom = max(y, row * length), min(y + side, (row + 1) * length)
            if bottom > (row + 1) * length - _TOO_FEW:
                strips.append(_strictly(path, x, top, side, bottom - top))
                continue
            numbers = range(row * columns + first, row * columns + (x + side - 1) // width + 1)
            strip = np.concatenate([_decoded(file, page, number) for number in numbers], axis=1)
            left = x - first * width
            strips.append(strip[top - row * length : bottom - row * length, left : left + side])
    return np.concatenate(strips)


def _decoded(file: tifffile.TiffFile, page: tifffile.TiffPage, number: int) -> NDArray[np.uint8]:
    file.filehandle.seek(page.dataoffsets[number])
    data = file.filehandle.read(page.databytecounts[number])
    space = "RGB" if page.photometric == tifffile.PHOTOMETRIC.RGB else "YCBCR"
    pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(
        data, tables=page.jpegtables, colorspace=space, outcolorspace="RGB"
    )
    return pixels


def _serve(request: Path, folder: Path) -> None:
    side, slides = json.loads(request.read_text())
    for number, (path, places) in enumerate(slides):
        stem = folder / str(number)
        child = os.fork()
        if not child:
            _answer_in_child(stem, path, places, side)
        ending = _wait(child)
        if ending:
            stem.with_suffix(".txt").write_text(ending)


def _answer_in_child(stem: Path, path: str, places: Places, side: int) -> None:
    try:
        np.save(stem.with_suffix(".npy"), _read(path, places, side))
    except Exception as error:
        stem.with_suffix(".txt").write_text(repr(error))
    os._exit(0)


def _wait(child: int) -> str:
    """How the child ended, in words; nothing where it ended well."""
    descriptor = os.pidfd_open(child)
    in_time = bool(select.select([descriptor], [], [], _SECONDS)[0])
    if not in_time:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(descriptor)
    return f"ended with {code}, {'by itself' if in_time else 'too late'}" if code else ""


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
