"""A model's features of every tile lie in one file a slide, and a run goes on where it ended."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pydmed_dali import Dataset, InfoColumn, Size
from pydmed_dali.errors import OptionError, PydmedError, ResultError, UserCodeError
from pydmed_dali.geometry import Point
from pydmed_dali.infer import InferenceResult, predict, read_features
from pydmed_dali.infer.collector import SlideFeatures
from pydmed_dali.infer.feature_file import content_of, writer
from pydmed_dali.infer.result_folder import ResultFolder
from pydmed_dali.plan.tile_grid import tissue_shares
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from pydmed_dali.worker.tissue_places import find_mask
from tests.integration.infer.three_slides import OPTIONS, SIZES, contents, means, write_three_slides
from tests.support import folder_dataset

CHECKOUT = Path(__file__).parents[3]


def expected(size: Size, x: int, y: int) -> list[float]:
    """What `means` says of the tile at a place of a coordinate slide; white beyond its edge."""
    tile = coordinate_pixels(Point(x, y), Size(64, 64), 0)
    tile[max(size.height - y, 0) :] = 255
    tile[:, max(size.width - x, 0) :] = 255
    return [*tile.mean(axis=(0, 1)).tolist(), float(tile[0, 0, 0])]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_three_slides(tmp_path / "slides")


@pytest.mark.parametrize("workers", [0, 2])
def test_features_and_places_of_every_tile_are_written(
    dataset: Dataset, tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "out" / "deep"
    done = predict(dataset, means, out, **{**OPTIONS, "num_workers": workers})
    assert done == InferenceResult(tuple(out / f"{name}.h5" for name in SIZES), (), {})
    assert sorted(path.name for path in out.iterdir()) == ["a.h5", "b.h5", "c.h5", "run.json"]
    for name, size in SIZES.items():
        found = contents(out / f"{name}.h5")
        assert found["features"].dtype == np.float32 and found["coords"].dtype == np.int64
        assert found["patch_size"] == found["patch_size_level0"] == 64
        assert found["patch_level"] == 0 and found["mpp"] == 0.5
        corners = {(x, y) for x in range(0, size.width, 64) for y in range(0, size.height, 64)}
        assert set(map(tuple, found["coords"].tolist())) == corners
        assert len(found["coords"]) == len(corners)
        said = [expected(size, x, y) for x, y in found["coords"].tolist()]
        np.testing.assert_allclose(found["features"], said, rtol=1e-6)


def test_a_run_that_broke_goes_on_with_the_slides_that_are_not_finished(
    dataset: Dataset, tmp_path: Path
) -> None:
    calls = 0

    def fragile(tiles: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:  # slides a and b have 20 and 1 tiles: three batches of 7
            raise ValueError("out of luck")
        return means(tiles)

    with pytest.raises(UserCodeError, match=r"raised ValueError\('out of luck'\).*c\.tif") as error:
        predict(dataset, fragile, tmp_path / "out", **OPTIONS)
    assert isinstance(error.value.__cause__, ValueError)
    finished = [tmp_path / "out" / name for name in ("a.h5", "b.h5")]
    before = [file.stat().st_mtime_ns for file in finished]
    assert sorted((tmp_path / "out").glob("*.h5")) == finished
    done = predict(dataset, means, tmp_path / "out", **{**OPTIONS, "batch_size": 9})
    assert done.kept == tuple(finished)
    assert done.written == (tmp_path / "out" / "c.h5",)
    assert [file.stat().st_mtime_ns for file in finished] == before
    assert len(contents(tmp_path / "out" / "c.h5")["features"]) == 25
    last = predict(dataset, fragile, tmp_path / "out", **OPTIONS)
    assert last == InferenceResult((), (*finished, tmp_path / "out" / "c.h5"), {})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda tiles: means(tiles)[:, 0], r"Tensor of shape \(7,\).*of shape \(7, K\)"),
        (lambda tiles: means(tiles)[:-1], r"of shape \(6, 4\) for 7 tiles of .*a\.tif"),
        (lambda tiles: means(tiles)[:, :0], r"of shape \(7, 0\)"),
        (lambda tiles: means(tiles).numpy(), "ndarray of shape"),
        (lambda tiles: None, r"NoneType of shape \(\)"),
        (
            lambda tiles: means(tiles).where(tiles[:, :1, 0, 0] != 64, torch.nan),
            r"no finite number for [12] of 7 tiles, the first one of .*a\.tif at x=64, y=\d+ ",
        ),
    ],
)
def test_what_a_model_must_not_return_is_refused(
    dataset: Dataset, tmp_path: Path, model: Any, words: str
) -> None:
    with pytest.raises(UserCodeError, match=words):
        predict(dataset, model, tmp_path / "out", **OPTIONS)
    assert not list((tmp_path / "out").iterdir()), "another model may use the folder"


@pytest.mark.parametrize("asked", [{"mpp": 1.0, "default_mpp": 0.5}, {"magnification": 10.0}])
def test_slides_are_read_at_the_resolution_asked_for(tmp_path: Path, asked: dict[str, Any]) -> None:
    """Half of level 0's: of a slide that tells no resolution, and of one that tells it."""
    told = None if "default_mpp" in asked else 0.5
    (tmp_path / "some").mkdir()
    write_coordinate_slide(tmp_path / "some" / "a.tif", Size(300, 200), levels=2, mpp=told)
    dataset = Dataset.from_folder(tmp_path / "some")
    done = predict(dataset, means, tmp_path / "out", **OPTIONS, **asked)
    found = read_features(done.written[0])
    assert found.attributes["patch_level"] == 1 and found.attributes["mpp"] == pytest.approx(1.0)
    assert found.coords.max(axis=0).tolist() == [256, 128]
    with pytest.raises(OptionError, match=r"there .*, here"):
        predict(dataset, means, tmp_path / "out", **OPTIONS, mpp=1.0, default_mpp=0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mpp": 1.0},  # of a slide that tells no resolution
        {"annotations": "no folder"},
        {"rank": 2, "world_size": 2},
    ],
)
def test_a_call_that_kept_nothing_leaves_its_folder_free(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    (tmp_path / "some").mkdir()
    write_coordinate_slide(tmp_path / "some" / "a.tif", Size(300, 200), levels=2)
    dataset = Dataset.from_folder(tmp_path / "some")
    with pytest.raises(PydmedError):
        predict(dataset, means, tmp_path / "out", **OPTIONS, **wrong)
    assert len(predict(dataset, means, tmp_path / "out", **OPTIONS).written) == 1


def test_a_width_that_changes_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    widths = iter((4, 3))
    with pytest.raises(
        UserCodeError, match=r"shape \(7, 3\).*must return a tensor of shape \(7, 4"
    ):
        predict(dataset, lambda t: means(t)[:, : next(widths)], tmp_path / "out", **OPTIONS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_name": "other"}, "model_name: there 'means', here 'other'$"),
        (
            {"stride": 32, "mpp": 0.5},
            "there 0, here None; mpp: there None, here 0.5; stride",
        ),
    ],
)
def test_results_of_another_run_are_not_mixed_with(
    dataset: Dataset, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    predict(dataset, means, tmp_path / "out", **OPTIONS)
    record = (tmp_path / "out" / "run.json").read_text()
    with pytest.raises(OptionError, match=words):
        predict(dataset, means, tmp_path / "out", **{**OPTIONS, **change})
    assert (tmp_path / "out" / "run.json").read_text() == record
    assert json.loads(record)["tile_size"] == "64x64"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.h5", "", r"no run\.json that tells what made .*x\.h5"),
        ("run.json", "{", r"run\.json cannot be read"),
        ("run.json", "[]", r"run\.json is no record of a run"),
    ],
)
def test_a_folder_that_no_run_made_is_refused(
    dataset: Dataset, tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(OptionError, match=words):
        predict(dataset, means, tmp_path / "out", **OPTIONS)


def test_a_file_that_cannot_be_completed_is_not_there(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out", ".h5", {}, [])

    def cut(file: Path) -> None:
        file.write_bytes(b"some of it")
        raise ValueError("out of luck")

    with pytest.raises(ValueError, match="out of luck"):
        results.write(Path("a.tif"), cut)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
    rows = np.zeros((2, len(InfoColumn)), np.int64)
    rows[:, [InfoColumn.WIDTH, InfoColumn.HEIGHT]] = 48, 32
    content = content_of(SlideFeatures(0, np.zeros((2, 1), np.float32), rows), (64, 64))
    file = results.write(Path("a.tif"), partial(writer("h5"), content))
    found = contents(file)
    assert found["patch_size"].tolist() == [48, 32]
    assert "mpp" not in found, "the slide does not tell it"


def test_what_a_killed_call_left_of_a_file_is_removed_once_it_is_old(
    dataset: Dataset, tmp_path: Path
) -> None:
    old, new = (tmp_path / f".a.h5.{name}.part" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half a file")
    os.utime(old, (0, 0))
    predict(dataset, means, tmp_path, **OPTIONS)
    assert new.exists() and not old.exists(), "another call may be writing the new one"


RANK = """
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tests.support import folder_dataset
from tests.integration.infer.test_predict import OPTIONS, means
from pydmed_dali.infer import predict
predict(folder_dataset(Path(sys.argv[1])), means, sys.argv[2], **OPTIONS)
"""


def test_two_ranks_at_once_write_what_one_process_writes(dataset: Dataset, tmp_path: Path) -> None:
    """Ranks as torchrun tells them; byte for byte."""
    one = predict(dataset, means, tmp_path / "one", **OPTIONS)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, tmp_path / "slides", tmp_path / "two"],
            cwd=CHECKOUT,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    files = {path.name for path in (tmp_path / "one").iterdir()}
    assert {path.name for path in (tmp_path / "two").iterdir()} == files
    for name in files:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    shares = [
        predict(dataset, means, tmp_path / "one", rank=rank, world_size=2, **OPTIONS).kept
        for rank in range(2)
    ]
    assert all(shares) and sorted(shares[0] + shares[1]) == sorted(one.written)


def test_what_cannot_be_written_is_told_and_what_was_finished_stays(
    dataset: Dataset, tmp_path: Path
) -> None:
    """As on a full disk: from the first batch on no file can grow beyond 9,000 bytes."""
    many = 300  # numbers a tile: those of b fit, those of c do not
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    left = Dataset(dataset.patients[1:], dataset.classes)

    def wide(tiles: torch.Tensor) -> torch.Tensor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        return means(tiles)[:, :1].expand(-1, many)

    most = 9_000
    try:
        with pytest.raises(ResultError, match=r"c\.h5 cannot be written .*; 1 slides are finished"):
            predict(left, wide, tmp_path / "out", **OPTIONS)
    finally:
        most = limits[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.h5", "run.json"]
    assert contents(tmp_path / "out" / "b.h5")["features"].shape == (1, many)
    done = predict(left, wide, tmp_path / "out", **OPTIONS)
    assert [file.name for file in done.written] == ["c.h5"]


def test_only_tiles_with_tissue_are_run(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    path = tmp_path / "slides" / "fat.svs"
    write_tissue_slide(path, Size(1600, 1200), tissue="fat", seed=1)
    dataset = folder_dataset(tmp_path / "slides")
    every = predict(dataset, means, tmp_path / "all", **OPTIONS)
    some = predict(dataset, means, tmp_path / "some", min_tissue=0.5, **OPTIONS)
    slide = OpenSlideSlide(path)
    mask = find_mask(path, slide, None, Cache(None))
    slide.close()
    shares = tissue_shares(mask.pixels, Size(1600, 1200), Size(64, 64), Size(64, 64))
    wanted = {(x * 64, y * 64) for y, x in np.argwhere(shares >= 0.5 - 1e-9).tolist()}
    everywhere, there = contents(every.written[0]), contents(some.written[0])
    assert 50 < len(wanted) < len(everywhere["coords"]) - 50
    assert set(map(tuple, there["coords"].tolist())) == wanted
    features = dict(
        zip(map(tuple, everywhere["coords"].tolist()), everywhere["features"], strict=True)
    )
    for place, found in zip(there["coords"].tolist(), there["features"], strict=True):
        np.testing.assert_allclose(found, features[tuple(place)], rtol=1e-6)
    with pytest.raises(OptionError, match=r"min_tissue: there 0\.5, here None"):
        predict(dataset, means, tmp_path / "some", **OPTIONS)


def test_exclusions_leave_out_tiles(dataset: Dataset, tmp_path: Path) -> None:
    def drawn(name: str, left: int, right: int) -> dict[str, Any]:
        ring = [[left, 0], [right, 0], [right, 200], [left, 200], [left, 0]]
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name}},
        }

    (tmp_path / "a.geojson").write_text(json.dumps([drawn("_0", 0, 300), drawn("_2", 0, 130)]))
    (tmp_path / "b.geojson").write_text(json.dumps([drawn("_O", 0, 300)]))
    options: dict[str, Any] = {
        **OPTIONS,
        "annotations": lambda path: file if (file := tmp_path / f"{path.stem}.geojson").exists()
        else None,
        "classes": ["_0"],
    }  # fmt: skip
    whole = predict(dataset, means, tmp_path / "whole", **options)
    assert set(contents(whole.written[0])["coords"][:, 0].tolist()) == {0, 64, 128, 192, 256}
    part = predict(dataset, means, tmp_path / "part", exclusions=["_2"], **options)
    assert set(contents(part.written[0])["coords"][:, 0].tolist()) == {128, 192, 256}
    reasons = {path.stem: reason for path, reason in part.slides_skipped.items()}
    assert reasons["b"].endswith("nothing on it is annotated as _0, only as '_O'")
    with pytest.raises(OptionError, match=r"exclusions: there '_2', here 'exclusion, ignore\*'"):
        predict(dataset, means, tmp_path / "part", **options)
    with pytest.raises(OptionError, match="not the text '_2'"):
        predict(dataset, means, tmp_path / "new", exclusions="_2", **options)


def test_only_tiles_in_annotated_regions_are_run(dataset: Dataset, tmp_path: Path) -> None:
    ring = [[0, 0], [130, 0], [130, 200], [0, 200], [0, 0]]  # centres at 32 and 96, not at 160
    drawn = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "tumor"}},
    }
    (tmp_path / "a.geojson").write_text(json.dumps(drawn))

    def file_of(path: Path) -> Path | None:
        return tmp_path / "a.geojson" if path.stem == "a" else None

    done = predict(
        dataset, means, tmp_path / "out", annotations=file_of, classes=["tumor"], **OPTIONS
    )
    assert [file.name for file in done.written] == ["a.h5"]
    assert set(contents(done.written[0])["coords"][:, 0].tolist()) == {0, 64}
    assert {path.stem for path in done.slides_skipped} == {"b", "c"}
    assert all("annotated as tumor" in reason for reason in done.slides_skipped.values())
    again = predict(
        dataset, means, tmp_path / "out", annotations=file_of, classes=["tumor"], **OPTIONS
    )
    assert (again.written, again.kept) == ((), done.written)
