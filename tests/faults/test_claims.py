"""Files that claim sizes no slide has: refused in words, and no memory is taken by their word."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pydmed_dali import BigChunkSource, Dataset, Size
from pydmed_dali.errors import SlideFormatError
from pydmed_dali.slide.limits import (
    MOST_LEVELS,
    MOST_PIXELS_A_SIDE,
    believable_mpp,
    check_claims,
)
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.faults import tiff_writer as tiff
from tests.faults.memory import memory
from tests.faults.tiff_writer import Tag, Tags, long, short, tiff_bytes
from tests.support import SMALL_RUN, take

MEBIBYTE = 2**20
MOST_MORE = 64 * MEBIBYTE
"""Of resident and of reserved memory; the smallest claim below is one of 512 MiB."""
NO_OPENSLIDE = "OpenSlide cannot open it"


def level(width: int, height: int, tile: int, **more: Tag) -> Tags:
    """The tags of an uncompressed RGB level."""
    return {
        254: long(0),
        tiff.WIDTH: long(width),
        tiff.LENGTH: long(height),
        258: short(8, 8, 8),
        259: short(1),
        262: short(2),
        277: short(3),
        284: short(1),
        tiff.TILE_WIDTH: long(tile),
        tiff.TILE_LENGTH: long(tile),
        **{int(name[1:]): tag for name, tag in more.items()},
    }


def one_level(width: int, height: int, tile: int, **more: Tag) -> bytes:
    """A TIFF with one small tile of data."""
    return tiff_bytes([level(width, height, tile, **more)], [[bytes(4096)]])


def many_levels(count: int) -> bytes:
    """A pyramid each level of which has a column less than the one before."""
    sizes = range(2048, 2048 - count, -1)
    levels = [level(width, 2048, 2048, t254=long(int(width < 2048))) for width in sizes]
    return tiff_bytes(levels, [[bytes(64)] for _ in sizes])


def many_tiles(width: int) -> bytes:
    """A slide of one row of tiles, all of them there."""
    count = width // 256
    return one_level(width, 256, 256, t324=long(*[8] * count), t325=long(*[4096] * count))


def endless_directories() -> bytes:
    """The first directory is followed by itself."""
    data = bytearray(one_level(512, 512, 512))
    (entries,) = struct.unpack_from("<H", data, 8)
    struct.pack_into("<I", data, 10 + 12 * entries, 8)
    return bytes(data)


def big_tiff(count: int) -> bytes:
    """A BigTIFF whose tiles' places are said to be `count` numbers."""
    values = {256: 512, 257: 512, 258: 8, 259: 1, 262: 1, 277: 1, 322: 512, 323: 512}
    entries = [struct.pack("<HHQQ", code, 16, 1, value) for code, value in values.items()]
    entries += [struct.pack("<HHQQ", code, 16, count, 16) for code in (324, 325)]
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries))
    return head + b"".join(entries) + bytes(8 + 4096)


CLAIMS: dict[str, tuple[bytes, str]] = {
    "sides of a billion": (one_level(10**9, 10**9, 256), NO_OPENSLIDE),
    "a billion tiles": (
        one_level(10**9, 10**9, 32768, t324=Tag("I", [8], 2**30), t325=Tag("I", [8], 2**30)),
        NO_OPENSLIDE,
    ),
    "the widest int": (one_level(2**31 - 1, 10, 256), NO_OPENSLIDE),
    "wider than any": (many_tiles(2**22), "level 0 claims 4194304x256 pixels"),
    "huge tile": (one_level(10**6, 10**6, 10**6 - 64), "claims tiles of 999936x999936 pixels"),
    "big tile": (one_level(11_584, 11_584, 11_584), "claims tiles of 11584x11584 pixels"),
    "levels": (many_levels(1000), "it claims 1000 levels; a slide has 1 to 64"),
    "long tile": (one_level(512, 512, 512, t325=long(2**32 - 1)), "TIFFFillTile: Read error"),
    "samples": (one_level(512, 512, 512, t277=short(65535)), NO_OPENSLIDE),
    "endless": (endless_directories(), "OpenSlide cannot"),
    "2^60 tiles": (big_tiff(2**60), NO_OPENSLIDE),
}


@pytest.fixture
def claims(tmp_path: Path) -> dict[Path, str]:
    """Files that claim too much, each with the words for it."""
    for name, (data, _) in CLAIMS.items():
        (tmp_path / f"{name}.tif").write_bytes(data)
    return {tmp_path / f"{name}.tif": words for name, (_, words) in CLAIMS.items()}


def test_a_worker_takes_no_memory_by_a_files_word(
    claims: dict[Path, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sound = tmp_path_factory.mktemp("sound")
    for folder in (tmp_path, sound):
        write_coordinate_slide(folder / "sound.tif", Size(600, 600), levels=1)
    used = []
    for folder in (sound, tmp_path):
        options: dict[str, Any] = {**SMALL_RUN, "num_workers": 1, "passes": 1, "read_timeout": 10}
        with BigChunkSource(Dataset.from_folder(folder), **options) as source:
            take(source, source.batches_per_epoch)
            report = source.report()
            used.append(memory(psutil.Process().children()[0].pid))
    assert not report.deaths
    told = {**report.regions_failed, **report.slides_skipped}
    assert told.keys() == claims.keys()
    for path, words in claims.items():
        assert str(path) in told[path] and words in told[path]
    for name, least in used[0].items():
        assert used[1][name] < least + MOST_MORE, name


def inspect(paths: list[Path], tmp_path: Path) -> tuple[list[str], dict[str, int]]:
    """What `inspect` says of each, in a process of its own, and the memory it took for all."""
    sound = write_coordinate_slide(tmp_path / "sound.tif", Size(600, 600), levels=1)
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from pydmed_dali.cli.inspect import inspect_slides\n"
        "from tests.faults.memory import memory\n"
        "paths = [Path(path) for path in sys.argv[1:]]\n"
        "inspect_slides(paths[:1])\n"
        "before = memory()\n"
        "reasons = [inspection.problem for inspection in inspect_slides(paths)]\n"
        "print(json.dumps([reasons, before, memory()]))"
    )
    command = [sys.executable, "-c", program, str(sound), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    reasons, before, after = json.loads(done.stdout)
    assert reasons[0] is None
    return reasons[1:], {name: after[name] - before[name] for name in before}


def test_inspect_takes_no_memory_by_a_files_word(claims: dict[Path, str], tmp_path: Path) -> None:
    reasons, used = inspect(list(claims), tmp_path)
    for words, reason in zip(claims.values(), reasons, strict=True):
        assert words in reason
    assert max(used.values()) < MOST_MORE, used


@pytest.mark.parametrize(
    "data",
    [big_tiff(2**27), one_level(512, 512, 512, t270=Tag("s", b"text", 2**30))],
    ids=["a list of tiles", "a text"],
)
def test_what_openslide_reserves_for_a_value_is_not_filled(tmp_path: Path, data: bytes) -> None:
    """It asks for the 1 GiB that a tag says it needs, and then finds the file too short."""
    (path := tmp_path / "claim.tif").write_bytes(data)
    (reason,), used = inspect([path], tmp_path)
    assert reason.startswith(str(path))
    assert used["VmHWM"] < MOST_MORE < used["VmPeak"], used


GOOD = Size(100, 100)


@pytest.mark.parametrize(
    ("sizes", "downsamples", "tiles", "words"),
    [
        ((), (), (), "it claims 0 levels"),
        ((GOOD,) * (MOST_LEVELS + 1), (1.0,), (None,), "it claims 65 levels"),
        ((Size(0, 100),), (1.0,), (None,), "level 0 claims 0x100 pixels"),
        ((Size(5, MOST_PIXELS_A_SIDE + 1),), (1.0,), (None,), "a side has 1 to 2,097,152"),
        ((GOOD, GOOD), (1.0, float("nan")), (None,), "level 1 claims a downsample of nan"),
        ((GOOD,), (-1.0,), (None,), "level 0 claims a downsample of -1.0"),
        ((GOOD,), (1.0,), (Size(8193, 8192),), "level 0 claims tiles of 8193x8192 pixels"),
        ((GOOD,), (1.0,), (Size(0, 8192),), "level 0 claims tiles of 0x8192 pixels"),
    ],
)
def test_each_limit(
    sizes: tuple[Size, ...],
    downsamples: tuple[float, ...],
    tiles: tuple[Size | None, ...],
    words: str,
) -> None:
    with pytest.raises(SlideFormatError, match=words):
        check_claims(sizes, downsamples, tiles, None)


def test_the_largest_that_is_allowed() -> None:
    side = Size(MOST_PIXELS_A_SIDE, MOST_PIXELS_A_SIDE)
    check_claims(
        (side,) * MOST_LEVELS, (1.0,), (Size(8192, 8192), Size(2**21, 32), None), (1e-4, 1e5)
    )


@pytest.mark.parametrize("mpp", [float("nan"), 0.0, -0.25, 1e300, float("inf"), 1e-300])
def test_a_resolution_that_nothing_has(mpp: float) -> None:
    with pytest.raises(SlideFormatError, match=r"it claims .* micrometres per pixel"):
        check_claims((GOOD,), (1.0,), (None,), (0.5, mpp))
    assert believable_mpp(mpp, 0.5) is None and believable_mpp(None, 0.5) is None
    assert believable_mpp(0.25, 0.5) == (0.25, 0.5)
