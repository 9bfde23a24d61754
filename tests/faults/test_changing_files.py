"""Slides that are replaced, written to or deleted while a run goes on: never two under one name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from numpy.typing import NDArray

from pydmed_dali import BigChunkSource, Point, Size, SmallChunkIterator
from pydmed_dali.errors import SlideChangedError, SlideError, SlideNotFoundError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels
from tests.conftest import COORDINATE_SIZE
from tests.support import NAMES, SMALL_RUN, Batch, assert_coordinates, first, folder_dataset

SLIDE = "even/slide-2.tif"
MOST_BATCHES = 200


@pytest.fixture
def folder(coordinate_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(coordinate_folder, tmp_path / "slides"))
    write_plainly(folder / SLIDE, coordinate_pixels(Point(0, 0), COORDINATE_SIZE, 0))
    return folder


def write_plainly(path: Path, pixels: NDArray[np.uint8]) -> None:
    """An uncompressed slide: one of the same size has all its tiles at the same places.

    OpenSlide opens a slide's file anew for each read. So with another file in its place, it reads
    that one's bytes by the first one's directory, and nothing fails.
    """
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None)


def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    write_plainly(new, 255 - coordinate_pixels(Point(0, 0), COORDINATE_SIZE, 0))
    os.replace(new, path)


def replace_by_a_smaller_one(path: Path) -> None:
    new = path.with_suffix(".new")
    write_plainly(new, np.zeros((200, 300, 3), np.uint8))
    os.replace(new, path)


def replace_by_one_as_old(path: Path) -> None:
    old = path.stat()
    replace(path)
    assert path.stat().st_size == old.st_size
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def replace_by_no_slide(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b"no slide at all")
    os.replace(path.with_suffix(".new"), path)


def write_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def write_over(path: Path) -> None:
    """In place: the file keeps its number."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def replace_and_kill_all_readers(path: Path) -> None:
    """The processes that come instead see only the new file."""
    replace(path)
    for worker in psutil.Process().children():
        worker.kill()


CHANGES = [
    replace,
    replace_by_a_smaller_one,
    replace_by_one_as_old,
    replace_by_no_slide,
    replace_and_kill_all_readers,
    write_to,
    write_over,
]


def run_until(
    source: BigChunkSource, change: Callable[[], None], extents: dict[int, Size]
) -> list[Batch]:
    """Deliver the slide, change it, and go on until it is skipped; all pixels must be the first's.

    Returns the batches after that.
    """
    batches = first(SmallChunkIterator(basic(source), NAMES), MOST_BATCHES)
    for batch in batches:
        assert_coordinates(batch, extents)
        if any(c.record.relative.match(SLIDE) for c in source.describe(batch["info"])):
            break
    change()
    for batch in batches:
        assert_coordinates(batch, extents)
        if source.report().slides_skipped:
            return list(batches)
    raise AssertionError(f"the change was not noticed in {MOST_BATCHES} batches")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_slide_that_changes_is_skipped_from_then_on(
    folder: Path,
    coordinate_extents: dict[int, Size],
    change: Callable[[Path], None],
    num_workers: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {**SMALL_RUN, "num_workers": num_workers}
    path = folder / SLIDE
    if not num_workers and change is replace_and_kill_all_readers:
        pytest.skip("there is no other process")
    with BigChunkSource(folder_dataset(folder), **options) as source:
        after = run_until(source, lambda: change(path), coordinate_extents)
        report = source.report()
        late = [c for b in after[40:] for c in source.describe(b["info"])]
    assert list(report.slides_skipped) == [path]
    words = "another file stands there than when the run first read it"
    if change is replace_by_no_slide:  # said by a worker that had not opened the slide before
        words += "|OpenSlide cannot open it"
    assert re.search(words, str(report))
    assert sum(path.name in record.message for record in caplog.records) <= 2, "said once"
    for batch in after:
        assert_coordinates(batch, coordinate_extents)
    assert late and all(crop.record.path != path for crop in late)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_slide_that_is_deleted_is_skipped_from_then_on(
    folder: Path, coordinate_extents: dict[int, Size], num_workers: int
) -> None:
    options = {**SMALL_RUN, "num_workers": num_workers}
    with BigChunkSource(folder_dataset(folder), **options) as source:
        run_until(source, (folder / SLIDE).unlink, coordinate_extents)
        assert "there is no such file" in source.report().slides_skipped[folder / SLIDE]


@pytest.mark.parametrize(
    ("change", "error"), [(replace, SlideChangedError), (Path.unlink, SlideNotFoundError)]
)
def test_on_error_raise_stops_at_a_change(
    folder: Path,
    coordinate_extents: dict[int, Size],
    change: Callable[[Path], None],
    error: type[SlideError],
) -> None:
    with (
        BigChunkSource(folder_dataset(folder), **SMALL_RUN, on_error="raise") as source,
        pytest.raises(error, match=r"slide-2\.tif"),
    ):
        run_until(source, lambda: change(folder / SLIDE), coordinate_extents)


def test_a_new_name_or_other_rights_are_no_change(
    folder: Path, coordinate_extents: dict[int, Size]
) -> None:
    def change() -> None:
        os.link(folder / SLIDE, folder / "link.tif")
        (folder / SLIDE).chmod(0o444)

    with (
        BigChunkSource(folder_dataset(folder), **SMALL_RUN) as source,
        pytest.raises(AssertionError, match="was not noticed in 200 batches"),
    ):
        run_until(source, change, coordinate_extents)
    assert not source.report().slides_skipped


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_file_under_another_number_is_no_change(
    folder: Path, coordinate_extents: dict[int, Size], num_workers: int
) -> None:
    """As network mounts show it, to a process that had it open and to one that opens it anew."""

    def change() -> None:
        path, workers = folder / SLIDE, psutil.Process().children()
        os.replace(shutil.copy2(path, path.with_suffix(".new")), path)
        for worker in workers[:1]:
            worker.kill()

    options = {**SMALL_RUN, "num_workers": num_workers}
    with (
        BigChunkSource(folder_dataset(folder), **options) as source,
        pytest.raises(AssertionError, match="was not noticed in 200 batches"),
    ):
        run_until(source, change, coordinate_extents)
    assert not source.report().slides_skipped
