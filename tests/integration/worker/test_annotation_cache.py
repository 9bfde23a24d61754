"""Annotation files are parsed once: in processes where they are large, and kept for all readers."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pydmed_dali import BigChunkLoader, BigChunkSource, Dataset, Size, read_annotations
from pydmed_dali.annotation.reader import read_file
from pydmed_dali.annotation.spans import find_spans
from pydmed_dali.annotation.table import PolygonTable
from pydmed_dali.errors import AnnotationError, SlideReadError
from pydmed_dali.pool import annotation_processes
from pydmed_dali.pool.annotation_processes import read_files
from pydmed_dali.pool.worker_pool import InProcessPool
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.slide import Slide
from pydmed_dali.worker import annotation_cache, annotation_finder
from pydmed_dali.worker.annotation_cache import load_table
from pydmed_dali.worker.annotation_plan import AnnotationFile, ReadingRules
from pydmed_dali.worker.chunk_runner import ChunkRunner
from tests.drawings import DRAWINGS, OUTPUTS, SHARES, annotate, join, take_masked, write_geojson

RULES = ReadingRules()
RUN: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 64,
    "batch_size": 16,
    "resident": 4,
    "crops_per_chunk": 8,
    "num_workers": 0,
    "seed": 3,
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that this process has parsed, one after the other."""
    found: list[Path] = []

    def counted(path: Path, *rules: Any) -> Any:
        found.append(path)
        return read_file(path, *rules)

    monkeypatch.setattr(annotation_cache, "read_file", counted)
    return found


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also small files are read in processes."""
    monkeypatch.setattr(annotation_processes, "_LEAST_BYTES", 0)


def tie(folder: Path, name: str = "tie.geojson") -> Path:
    """A file with a polygon that crosses itself, and a line."""
    ring = [[0, 0], [20, 20], [20, 0], [0, 20]]
    shapes = [
        {"type": "Polygon", "coordinates": [ring]},
        {"type": "LineString", "coordinates": ring},
    ]
    features = [{"type": "Feature", "geometry": shape, "properties": {}} for shape in shapes]
    (folder / name).write_text(json.dumps(features))
    return folder / name


def test_every_file_is_parsed_once_however_often_its_slide_is_visited(
    coordinates: Dataset, tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a process can keep the annotations of one slide alone, and in the next run."""
    annotate(coordinates, tmp_path)
    options: dict[str, Any] = {**RUN, "annotations": tmp_path, "classes": SHARES}
    runs = []
    for most in (annotation_finder._MOST_BYTES, 1):
        monkeypatch.setattr(annotation_finder, "_MOST_BYTES", most)
        with BigChunkSource(coordinates, **options, cache_dir=tmp_path / "cache") as source:
            runs.append(join(take_masked(source, 20)))
        assert sorted(reads) == sorted(tmp_path.rglob("*.geojson")) and len(reads) == 5
    for name in OUTPUTS:
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


def test_the_places_of_many_polygons_are_kept(
    coordinates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of whole slides are looked for once, and are others for other crops and classes."""
    annotate(coordinates, tmp_path)
    looked: list[int] = []

    def counted(table: PolygonTable, classes: Any, xs: Any, ys: Any) -> Any:
        looked.append(len(xs) * len(ys))
        return find_spans(table, classes, xs, ys)

    monkeypatch.setattr(annotation_finder, "find_spans", counted)
    options: dict[str, Any] = {**RUN, "annotations": tmp_path, "cache_dir": tmp_path / "cache"}
    runs = []
    for many, classes, crop, whole in (
        (10**6, SHARES, 64, 5),
        (1, SHARES, 64, 5),
        (1, SHARES, 64, 0),
        (1, {"stroma": 0.3, "tumor": 0.5}, 64, 5),
        (1, SHARES, 63, 5),
    ):
        monkeypatch.setattr(annotation_finder, "_MANY_POLYGONS", many)
        looked.clear()
        with BigChunkSource(coordinates, **{**options, "crop_size": crop}, classes=classes) as s:
            runs.append(join(take_masked(s, 20)))
        assert sum(points > 256**2 for points in looked) == whole
    for name in OUTPUTS:
        np.testing.assert_array_equal(runs[0][name], runs[1][name])
        np.testing.assert_array_equal(runs[0][name], runs[2][name])


def test_what_a_process_keeps_is_bounded_by_bytes(
    coordinates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(coordinates, tmp_path)
    options: dict[str, Any] = {**RUN, "annotations": tmp_path, "classes": SHARES}
    for most, views in ((2**28, 6), (1, 1)):
        monkeypatch.setattr(annotation_finder, "_MOST_BYTES", most)
        with BigChunkSource(coordinates, **options) as source:
            take_masked(source, 20)
            pool = source._engine.pool
            assert isinstance(pool, InProcessPool)
            assert isinstance(pool._runner, ChunkRunner)
            finder = pool._runner._annotations
            assert finder is not None
            assert len(finder._known) == views


@pytest.mark.usefixtures("in_processes")
def test_processes_read_what_this_process_reads(tmp_path: Path, reads: list[Path]) -> None:
    paths = [tie(tmp_path, f"{n}.geojson") for n in range(3)]
    paths.append(write_geojson(tmp_path / "drawn.geojson", DRAWINGS[0]))
    (tmp_path / "bad.geojson").write_text("{")
    paths.append(tmp_path / "bad.geojson")
    found = read_files(paths, RULES, tmp_path / "cache")
    assert not reads and not psutil.Process().children()
    assert set(found) == set(paths)
    bad = found.pop(tmp_path / "bad.geojson")
    assert isinstance(bad, AnnotationError) and str(bad).startswith(f"{tmp_path}/bad.geojson: it")
    assert found == {
        path: annotation_cache.read_and_keep(path, RULES, Cache(None)) for path in found
    }
    assert found == read_files(list(found), RULES, tmp_path / "cache"), "as they are kept"
    kept = load_table(paths[3], RULES, Cache(tmp_path / "cache"))
    assert len(reads) == 4, "the last one comes from the cache"
    grid = np.arange(0.5, 1500, 7.0)
    for classes in (["tumor", "stroma"], ["other"]):
        np.testing.assert_array_equal(
            find_spans(kept.table, classes, grid, grid).to_mask(),
            find_spans(read_annotations(paths[3]).table, classes, grid, grid).to_mask(),
        )


def test_what_is_remarkable_is_said_in_every_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "slide.svs").touch()
    tie(tmp_path, "slide.geojson")
    dataset = Dataset.from_folder(tmp_path)
    for _ in range(2):
        caplog.clear()
        with BigChunkSource(dataset, **RUN, annotations=tmp_path, cache_dir=tmp_path / "cache"):
            pass
        assert "1 of 2 annotations cross themselves and were repaired" in caplog.text
        assert "1 of 2 annotations have no area and are left out" in caplog.text


@pytest.mark.usefixtures("in_processes")
@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(600.0, "ended with code -9 (the kernel kills so"), (0.0, "was not read within 0 s")],
)
def test_a_file_that_ends_or_holds_up_its_reader_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, reason: str
) -> None:
    """The reader is one that ends, or waits, at the file; the files behind it are read."""
    program = "import os, sys, json, time\nfor line in sys.stdin:\n    os.kill(os.getpid(), 9)\n"
    if not seconds:
        program = program.replace("os.kill(os.getpid(), 9)", "time.sleep(3600)")
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return real([command[0], "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(annotation_processes, "_SECONDS_A_FILE", seconds)
    paths = [tie(tmp_path, f"{n}.geojson") for n in range(2)]
    found = read_files(paths, RULES, tmp_path / "cache")
    for path in paths:
        assert str(found[path]).startswith(f"{path}: ") and reason in str(found[path])
    assert not psutil.Process().children()


class OpensNever(BigChunkLoader):
    """Hangs where a file is opened."""

    def open_slide(self, path: Path) -> Slide:
        """Wait for longer than any test."""
        time.sleep(3600)
        raise AssertionError


def test_a_slow_worker_without_a_cache_is_told_with_its_annotation_file(
    coordinates: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the file that takes so long."""
    one = Dataset(coordinates.patients[:1], coordinates.classes)
    (record,) = one.slides
    file = write_geojson(tmp_path / "slide.geojson", DRAWINGS[0])
    (tmp_path / "file").touch()
    options: dict[str, Any] = {**RUN, "num_workers": 1, "read_timeout": 0.5}
    with (
        BigChunkSource(
            one, **options, annotations=file, cache_dir=tmp_path / "file" / "cache",
            loader=OpensNever(),
        ) as source,
        pytest.raises(SlideReadError, match="no slide"),
    ):  # fmt: skip
        take_masked(source, 1)
    told = caplog.text
    caplog.clear()  # the records hold the error, and by its traceback the ring
    assert f"for the slide or its annotations {file}, parsed anew for want of" in told
    assert f"while reading {record.path}; it is replaced" in told


@pytest.mark.usefixtures("in_processes")
def test_long_reading_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(annotation_processes, "_SECONDS_A_LINE", 0.0)
    found = read_files([tie(tmp_path)], RULES, tmp_path / "cache")
    assert all(isinstance(file, AnnotationFile) for file in found.values())
    assert f"annotations: 0 of 1 files are read, now among others {tmp_path}/tie" in caplog.text


def test_kept_content_belongs_to_the_file_and_to_the_rules(
    tmp_path: Path, reads: list[Path]
) -> None:
    path = write_geojson(tmp_path / "a.geojson", DRAWINGS[0])
    cache = tmp_path / "cache"
    (first,) = read_files([path], RULES, cache).values()
    for rules in (RULES, ReadingRules(("ignore* ", "EXCLUSION")), ReadingRules(max_bytes=10**9)):
        assert read_files([path], rules, cache)[path] == first
    assert len(reads) == 1
    other = read_files([path], ReadingRules(("stroma",)), cache)[path]
    assert isinstance(other, AnnotationFile) and other.excluded == {"stroma": 1}
    assert len(reads) == 2
    small = read_files([path], ReadingRules(max_bytes=10), cache)[path]
    assert "more than max_bytes=10" in str(small)
    write_geojson(path, DRAWINGS[1])
    assert read_files([path], RULES, cache)[path] != first and len(reads) == 3


def test_without_a_cache_and_with_a_damaged_one_files_are_parsed_anew(
    tmp_path: Path, reads: list[Path]
) -> None:
    path = write_geojson(tmp_path / "a.geojson", DRAWINGS[0])
    expected = read_annotations(path).table
    for cache in (Cache(None), Cache(tmp_path / "cache"), Cache(tmp_path / "cache")):
        kept = load_table(path, RULES, cache)
        assert_same(kept.table, expected)
    assert len(reads) == 2
    for file in (tmp_path / "cache").rglob("*"):
        if file.is_file():
            file.write_bytes(b"nothing of ours")
    assert_same(load_table(path, RULES, Cache(tmp_path / "cache")).table, expected)
    assert len(reads) == 3


def assert_same(table: PolygonTable, expected: PolygonTable) -> None:
    assert table.classes == expected.classes and len(table) == len(expected)
    for name in ("numbers", "boxes", "first", "rings", "corners"):
        np.testing.assert_array_equal(getattr(table, name), getattr(expected, name))


def test_a_table_has_the_polygons_of_the_annotations(tmp_path: Path) -> None:
    annotations = read_annotations(write_geojson(tmp_path / "a.geojson", DRAWINGS[0]))
    table = PolygonTable.from_bytes(annotations.table.to_bytes())
    polygons = [polygon for region in annotations.regions for polygon in region.polygons]
    assert all(table.polygon(n).equals(polygon) for n, polygon in enumerate(polygons))
    assert table.boxes.tolist() == [list(polygon.bounds) for polygon in polygons]
    assert [table.classes[n] for n in table.numbers] == ["tumor", "stroma", "other"]
    assert table.refuse_outside(tmp_path, Size(1536, 1280)) == (0, 0)
    assert table.refuse_outside(tmp_path, Size(800, 900)) == (1, 2)
