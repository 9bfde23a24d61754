"""Files that do not answer: a server that is silent for a while, pipes and devices named *.svs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pydmed_dali import BigChunkSource, Dataset
from pydmed_dali.cli.app import app
from pydmed_dali.errors import SlideFormatError
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from tests.faults.file_server import silent_server
from tests.faults.loaders import SLIDE, ReadsFromPipe
from tests.support import SMALL_RUN, folder_dataset, sum_up, take

LIMIT = 2.0
OPTIONS: dict[str, Any] = {**SMALL_RUN, "read_timeout": LIMIT}
OTHERS = {f"slide-{number}.tif" for number in (0, 1, 3, 4, 5)}


@pytest.fixture
def folder(coordinate_folder: Path, tmp_path: Path) -> Path:
    """Slides of the test's own: a lease needs a file that nobody else has open."""
    return Path(shutil.copytree(coordinate_folder, tmp_path / "slides"))


@pytest.fixture(scope="module")
def healthy(coordinates: Dataset) -> Any:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        return sum_up(take(source, 20))


def assert_as_if_nothing_was(outputs: Any, healthy: Any) -> None:
    for name in ("image", "info", "label"):
        np.testing.assert_array_equal(outputs[name], healthy[name])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_server_that_is_back_before_the_timeout_is_waited_for(
    folder: Path, healthy: Any, num_workers: int
) -> None:
    options = {**OPTIONS, "num_workers": num_workers}
    with (
        silent_server(folder / "even" / SLIDE, LIMIT / 2),
        BigChunkSource(folder_dataset(folder), **options) as source,
    ):
        outputs = sum_up(take(source, 20))
        stats, report = source.stats(), source.report()
    assert stats.decode_seconds > LIMIT / 2, "nobody waited"
    assert not report.deaths and not report.slides_skipped and not report.regions_failed
    assert_as_if_nothing_was(outputs, healthy)


def test_a_server_that_is_back_after_the_timeout_costs_those_who_waited(
    folder: Path, healthy: Any
) -> None:
    with (
        silent_server(folder / "even" / SLIDE, LIMIT * 1.5),
        BigChunkSource(folder_dataset(folder), **OPTIONS) as source,
    ):
        outputs = sum_up(take(source, 20))
        report = source.report()
    assert 1 <= len(report.deaths) <= OPTIONS["num_workers"]
    assert all(SLIDE in str(d.path) and "read_timeout" in d.ending for d in report.deaths)
    assert not report.slides_skipped
    assert_as_if_nothing_was(outputs, healthy)


def test_a_server_that_stays_silent_costs_the_slide(folder: Path) -> None:
    with (
        silent_server(folder / "even" / SLIDE, 3600),
        BigChunkSource(folder_dataset(folder), **OPTIONS) as source,
    ):
        crops = [c for b in take(source, 20) for c in source.describe(b["info"])]
        report = source.report()
    (reason,) = report.slides_skipped.values()
    assert SLIDE in reason and "2 workers ended while reading it" in reason
    assert "killed after 2 s without an answer (read_timeout)" in reason
    assert 2 <= len(report.deaths) <= 4, "two for each chunk of the slide that was under way"
    assert {crop.record.path.name for crop in crops} == OTHERS


def test_a_read_that_stalls_for_a_while_is_waited_for(
    coordinates: Dataset, healthy: Any, tmp_path: Path
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    waited = []

    def answer() -> None:
        with pipe.open("wb") as server:  # opens as soon as a worker reads
            waited.append(threading.Event().wait(LIMIT / 2))
            server.write(b"x")

    thread = threading.Thread(target=answer)
    thread.start()
    with BigChunkSource(coordinates, **OPTIONS, loader=ReadsFromPipe(pipe)) as source:
        outputs = sum_up(take(source, 20))
        report = source.report()
    thread.join()
    assert waited and not report.deaths and not report.slides_skipped
    assert_as_if_nothing_was(outputs, healthy)


def test_a_read_that_stalls_for_ever_costs_the_slide(coordinates: Dataset, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with BigChunkSource(coordinates, **OPTIONS, loader=ReadsFromPipe(pipe)) as source:
        crops = [c for b in take(source, 20) for c in source.describe(b["info"])]
        report = source.report()
    assert [path.name for path in report.slides_skipped] == [SLIDE]
    assert {crop.record.path.name for crop in crops} == OTHERS


@pytest.fixture
def odd_files(folder: Path) -> dict[str, str]:
    """What may lie among slides and is no regular file, by name, with the words for it."""
    os.mkfifo(folder / "pipe.svs")
    (folder / "zeros.svs").symlink_to("/dev/zero")
    (folder / "folder.svs").symlink_to(folder / "even")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.svs"))
    (folder / "nowhere.svs").symlink_to(folder / "nothing")
    return {
        "pipe.svs": "it is a named pipe; a slide must be a regular file",
        "zeros.svs": "it is a device; a slide must be a regular file",
        "folder.svs": "it is a folder; a slide must be a regular file",
        "socket.svs": "it is a socket; a slide must be a regular file",
        "nowhere.svs": "there is no such file",
    }


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_is_no_regular_file_is_skipped_at_once(
    folder: Path, odd_files: dict[str, str], num_workers: int
) -> None:
    begun = time.monotonic()
    options = {**OPTIONS, "num_workers": num_workers, "passes": 1, "read_timeout": 600}
    with BigChunkSource(Dataset.from_folder(folder), **options) as source:
        take(source, source.batches_per_epoch)
        report = source.report()
    assert time.monotonic() - begun < 300
    assert not report.deaths
    reasons = {path.name: reason for path, reason in report.slides_skipped.items()}
    walked = odd_files.keys() - {"folder.svs"}  # from_folder looks for slides in it
    assert reasons.keys() == walked
    for name in walked:
        assert reasons[name] == f"{folder / name}: {odd_files[name]}"


def test_inspect_says_what_is_no_regular_file(folder: Path, odd_files: dict[str, str]) -> None:
    paths = [str(folder / name) for name in ("pipe.svs", "zeros.svs", "socket.svs")]
    result = CliRunner().invoke(app, ["inspect", "--json", *paths])
    assert result.exit_code == 1
    reasons = [slide["reason"] for slide in json.loads(result.stdout)["slides"]]
    assert reasons == [f"{path}: {odd_files[Path(path).name]}" for path in paths]


def test_a_file_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (loop := tmp_path / "loop.svs").symlink_to(loop)
    with pytest.raises(SlideFormatError, match=r"loop.svs: it cannot be looked at \(.*levels"):
        OpenSlideSlide(loop)
