"""Damaged slides in numbers: what is delivered of them is what OpenSlide reads, the rest is told.

PYDMED_DALI_FUZZ_SLIDES=500 damages so many, and `-s` prints what became of them.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pydmed_dali import BigChunkLoader, BigChunkSource, Dataset, InfoColumn, Point, Size
from pydmed_dali.pool.report import Report
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide
from tests.faults.damage import DAMAGES, Anatomy, damage, find_anatomy
from tests.faults.loaders import Forgiving
from tests.faults.reference import read_freshly
from tests.faults.tiff_writer import directories_first
from tests.support import take

REAL = (
    "CMU-1-Small-Region.svs",
    "CMU-1-Small-Region.pyramid.tif",
    "tcga-cr-7395-01a-01-ts1.svs",
    "packed-biopsies.tif",
    "fluorescence-dapi.ndpi",
)
FORMATS = (*REAL, "directories-first.tif", "coordinates.tif")
KINDS = [(name, kind) for kind in DAMAGES for name in FORMATS]
SLIDES = int(os.environ.get("PYDMED_DALI_FUZZ_SLIDES", len(KINDS)))
A_SOURCE = 25  # damaged slides in one run
SECONDS = 60.0  # that one run may take, on busy cores
GOOD = ("good-1.tif", "good-2.tif")
EXTENT = Size(1536, 1280)
CROP = 64
OPTIONS: dict[str, Any] = {
    "chunk_size": 384,
    "crop_size": CROP,
    "batch_size": 16,
    "resident": 4,
    "crops_per_chunk": 6,
    "num_workers": 2,
    "passes": 3,
    "read_timeout": 5.0,
}


@dataclass(frozen=True)
class Sound:
    """A slide before it is damaged."""

    data: bytes
    anatomy: Anatomy


@dataclass
class Outcome:
    """What became of the slides of one source."""

    places: dict[Path, list[tuple[int, int]]]
    """Of each slide (x, y) of its crops, in level-0 pixels."""
    crops: dict[Path, list[NDArray[np.uint8]]]
    """The crops themselves."""
    report: Report
    seconds: float


@pytest.fixture(scope="module")
def sound(real_slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sound]:
    """One slide of each format."""
    folder = tmp_path_factory.mktemp("sound")
    paths = [real_slides / name for name in REAL]
    first = folder / "directories-first.tif"
    first.write_bytes(directories_first(real_slides / "CMU-1-Small-Region.pyramid.tif"))
    coordinates = write_coordinate_slide(folder / "coordinates.tif", EXTENT, levels=3)
    return {p.name: Sound(p.read_bytes(), find_anatomy(p)) for p in (*paths, first, coordinates)}


def run(folder: Path, loader: BigChunkLoader | None = None) -> Outcome:
    """A whole finite run over the slides of a folder."""
    begun = time.monotonic()
    places, crops = defaultdict(list), defaultdict(list)
    dataset = Dataset.from_folder(folder)
    with BigChunkSource(dataset, **OPTIONS, loader=loader) as source:
        for batch in take(source, source.batches_per_epoch):
            for image, row in zip(batch["image"].numpy(), batch["info"].numpy(), strict=True):
                path = dataset.slides[row[InfoColumn.SLIDE]].path
                if row[InfoColumn.VALID]:
                    places[path].append((int(row[InfoColumn.X]), int(row[InfoColumn.Y])))
                    crops[path].append(image)
        report = source.report()
    return Outcome(places, crops, report, time.monotonic() - begun)


def assert_good_slides_are_whole(outcome: Outcome, folder: Path) -> None:
    assert outcome.seconds < SECONDS
    for path in (folder / name for name in GOOD):
        assert path not in {**outcome.report.slides_skipped, **outcome.report.regions_failed}
        assert len(outcome.crops[path]) >= OPTIONS["passes"] * OPTIONS["crops_per_chunk"]
        for (x, y), crop in zip(outcome.places[path], outcome.crops[path], strict=True):
            expected = coordinate_pixels(Point(x, y), Size(CROP, CROP), 0)
            np.testing.assert_array_equal(crop, expected)


def assert_as_openslide_reads(outcome: Outcome, paths: Sequence[Path], folder: Path) -> None:
    delivered = {path: outcome.places[path] for path in paths if path in outcome.crops}
    truth = read_freshly(delivered, CROP, folder)
    for path in delivered:
        assert not isinstance(truth[path], str), f"{path} was delivered, but {truth[path]}"
        np.testing.assert_array_equal(np.array(outcome.crops[path]), truth[path], str(path))


def fate(path: Path, outcome: Outcome) -> str:
    """What became of a damaged slide; every way but the first is in the report."""
    report = outcome.report
    endings = [death.ending for death in report.deaths if death.path == str(path)]
    if endings:
        return "hung" if any("read_timeout" in ending for ending in endings) else "worker lost"
    if path in report.slides_skipped:
        return "skipped"
    if path in report.regions_failed:
        return "in places" if path in outcome.crops else "nowhere"
    assert path in outcome.crops, f"{path} is neither delivered nor reported"
    return "whole"


def try_out(
    sound: dict[str, Sound], folder: Path, numbers: range, kinds: Sequence[tuple[str, str]]
) -> Counter[tuple[str, str, str]]:
    """Run over damaged slides among good ones, and check all; counts (format, damage, fate)."""
    slides = folder / "slides"
    slides.mkdir(parents=True)
    for name in GOOD:
        (slides / name).write_bytes(sound["coordinates.tif"].data)
    damaged = {}
    for number in numbers:
        name, kind = kinds[number % len(kinds)]
        path = slides / f"{number:05}-{kind.replace(' ', '-')}-{name}"
        random = np.random.default_rng(number)
        path.write_bytes(damage(sound[name].data, sound[name].anatomy, kind, random))
        damaged[path] = (name, kind)
    outcome = run(slides)
    assert_good_slides_are_whole(outcome, slides)
    assert_as_openslide_reads(outcome, list(damaged), folder / "reference")
    counts = Counter((*damaged[path], fate(path, outcome)) for path in damaged)
    for path in damaged:
        path.unlink()
    return counts


def show(counts: Counter[tuple[str, str, str]], part: int) -> None:
    """Print a table of fates by format (part 0) or damage (part 1)."""
    fates = ("whole", "in places", "nowhere", "skipped", "worker lost", "hung")
    print("\n" + " | ".join(("", *fates)))
    for row in dict.fromkeys(key[part] for key in counts):
        cells = [
            sum(n for key, n in counts.items() if key[part] == row and key[2] == f) for f in fates
        ]
        print(" | ".join((row, *map(str, cells))))


@pytest.fixture(scope="module")
def counts() -> Iterator[Counter[tuple[str, str, str]]]:
    """What became of all damaged slides of this module, printed at the end."""
    counts: Counter[tuple[str, str, str]] = Counter()
    yield counts
    show(counts, 0)
    show(counts, 1)


@pytest.mark.parametrize("start", range(0, SLIDES, A_SOURCE))
def test_slides_with_damaged_bytes(
    sound: dict[str, Sound],
    tmp_path: Path,
    counts: Counter[tuple[str, str, str]],
    start: int,
) -> None:
    numbers = range(start, min(start + A_SOURCE, SLIDES))
    counts.update(try_out(sound, tmp_path, numbers, KINDS))


def test_damage_is_not_all_of_one_kind(counts: Counter[tuple[str, str, str]]) -> None:
    if counts.total() < len(KINDS):
        pytest.skip("the tests before this one did not run")
    seen = {fate for _, _, fate in counts}
    assert {"whole", "in places", "nowhere", "skipped"} <= seen


def test_slides_cut_off_at_twenty_places(sound: dict[str, Sound], tmp_path: Path) -> None:
    """Those that can be streamed still open: directories first, then the coarsest level."""
    kinds = [(name, "cut") for name in ("directories-first.tif", "coordinates.tif", *REAL)]
    counts = try_out(sound, tmp_path, range(20), kinds)
    for name, _, fate in counts:
        assert (fate == "skipped") == (name != "directories-first.tif"), counts


def test_a_reader_that_delivers_more_than_openslide_is_noticed(
    sound: dict[str, Sound], tmp_path: Path
) -> None:
    """The tests above can fail."""
    slides, whole = tmp_path / "slides", sound["directories-first.tif"]
    slides.mkdir()
    (slides / "cut.tif").write_bytes(whole.data[: len(whole.data) // 3])
    outcome = run(slides, Forgiving())
    with pytest.raises(AssertionError, match=r"cut\.tif was delivered, but OpenSlideError"):
        assert_as_openslide_reads(outcome, [slides / "cut.tif"], tmp_path / "reference")
