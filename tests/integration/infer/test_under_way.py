"""A run goes on within a slide: no tile is run twice, and the results are those of one run."""

from __future__ import annotations

import json
import logging
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pydmed_dali import Dataset, InfoColumn
from pydmed_dali.errors import UserCodeError
from pydmed_dali.infer import predict, segment
from pydmed_dali.infer.collector import SlideFeatures
from pydmed_dali.infer.feature_log import FeatureLog, identity_of
from pydmed_dali.slide.file_identity import file_identity
from tests.integration.infer.two_slides import (
    OPTIONS,
    TILES,
    Breaks,
    listed,
    means,
    write_two_slides,
)

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_two_slides(tmp_path / "slides")


@pytest.fixture
def whole(dataset: Dataset, tmp_path: Path) -> dict[str, bytes]:
    """The files of one run."""
    return files(predict(dataset, means, tmp_path / "whole", **OPTIONS).written)


def files(paths: tuple[Path, ...]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_a_model_that_raised_sees_each_tile_once(
    dataset: Dataset, whole: dict[str, bytes], tmp_path: Path, at: int
) -> None:
    first, out = Breaks(at), tmp_path / "out"
    with pytest.raises(UserCodeError, match="out of luck"):
        predict(dataset, first, out, **OPTIONS)
    assert first.tiles == 7 * at
    told: list[tuple[int, int]] = []
    second = Breaks(100)
    changed = {**OPTIONS, "batch_size": 5, "chunk_size": 100, "num_workers": 2}
    predict(dataset, second, out, progress=lambda *step: told.append(step), **changed)
    left = sum(TILES.values()) - first.tiles
    assert second.tiles == left
    assert told[-1] == (left, left) and [t for _, t in told] == [left] * len(told)
    assert listed(out) == ["a.h5", "b.h5", "run.json"]
    assert {name: (out / name).read_bytes() for name in whole} == whole


KILLED = """
import os, sys
from pathlib import Path
from tests.support import folder_dataset
from tests.integration.infer.two_slides import OPTIONS, means
from pydmed_dali.infer import predict
module = sys.modules["pydmed_dali.infer.predict"]
module._SAVE_SECONDS = 0.0
out, calls = Path(sys.argv[2]), 0
def slow(tiles):
    global calls
    calls += 1
    if calls == 6:  # of 7: three batches are of slide a, the third with one of b
        (out / "waiting").touch()
        os.read(0, 1)
    return means(tiles)
predict(folder_dataset(Path(sys.argv[1])), slow, out, **OPTIONS)
"""


def test_a_process_that_was_killed_has_lost_one_batch(
    dataset: Dataset, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "slides", out],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while not (out / "waiting").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (out / "waiting").unlink()
    assert listed(out) == [".b.h5.tiles", "a.h5", "run.json"]
    rest = Breaks(100)
    predict(dataset, rest, out, **OPTIONS)
    assert rest.tiles == sum(TILES.values()) - 5 * 7
    assert {name: (out / name).read_bytes() for name in whole} == whole


def cut(content: bytes) -> bytes:
    return content[:-3]


def flipped(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def emptied(content: bytes) -> bytes:
    return b""


def cut_head(content: bytes) -> bytes:
    return content[:20]


@pytest.mark.parametrize(
    ("damage", "kept"), [(cut, 1), (flipped, 1), (cut_head, 0), (emptied, 0), (None, 3)]
)
def test_a_log_that_was_cut_or_damaged_is_believed_up_to_there(
    tmp_path: Path, damage: Callable[[bytes], bytes] | None, kept: int
) -> None:
    slide, file = tmp_path / "slide.tif", tmp_path / "log"
    slide.write_bytes(b"some slide")
    present = file_identity(slide)
    assert present is not None
    FeatureLog(file).append(part(64), present)
    FeatureLog(file).append(part(128, 0), present)
    if damage is not None:
        file.write_bytes(damage(file.read_bytes()))
    log = FeatureLog(file)
    begun = log.begun(slide)
    if not kept:
        assert begun is None and not file.exists()
    else:
        found = log.load(5)
        assert begun is not None and found is not None and found.slide == 5
        assert sorted(begun.corners[:, 0].tolist()) == ([0, 64, 128] if kept == 3 else [64])
        assert sorted(found.features[:, 1].tolist()) == ([0, 64, 128] if kept == 3 else [64])
        assert (found.rows[:, InfoColumn.X] == found.features[:, 0]).all()
        assert (found.rows[:, InfoColumn.SLIDE] == 5).all()
        assert (begun.width, begun.identity) == (2, identity_of(present))
    log.append(part(256, 64), present)  # found behind a cut, and no tile comes twice
    again = FeatureLog(file).load(5)
    assert again is not None
    wanted = {0: [64, 256], 1: [64, 256], 3: [0, 64, 128, 256]}[kept]
    assert sorted(again.rows[:, InfoColumn.X].tolist()) == wanted
    slide.write_bytes(b"another slide")
    assert FeatureLog(file).begun(slide) is None and not file.exists()


def part(*places: int) -> SlideFeatures:
    """Tiles at these places, whose features tell them."""
    rows = np.zeros((len(places), len(InfoColumn)), np.int64)
    rows[:, InfoColumn.X] = places
    return SlideFeatures(0, np.array(places, np.float32)[:, None] * np.ones(2, "f4"), rows)


def test_a_disk_that_was_full_for_a_while_costs_only_what_could_not_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a full disk: no file can grow beyond 500 bytes; of a tile there are 200."""
    slide, log = tmp_path / "slide.tif", FeatureLog(tmp_path / "log")
    slide.write_bytes(b"some slide")
    present = file_identity(slide)
    assert present is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        assert not log.append(part(0), present), "nor half of the identity"
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        assert log.append(part(0), present)
        assert not log.append(part(64), present)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.append(part(128), present)
    begun = FeatureLog(tmp_path / "log").begun(slide)
    assert begun is not None and begun.corners[:, 0].tolist() == [0, 128]
    assert caplog.text.count("tiles under way are not kept") == 2


def test_another_number_of_features_is_refused_and_what_was_there_stays(
    dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserCodeError):
        predict(dataset, Breaks(2), out, **OPTIONS)
    with pytest.raises(UserCodeError, match=r"\(7, 2\).*must return a tensor of shape \(7, 3\)"):
        predict(dataset, lambda tiles: means(tiles)[:, :2], out, **OPTIONS)
    model = Breaks(100)
    predict(dataset, model, out, **OPTIONS)
    assert model.tiles == sum(TILES.values()) - 14


def test_what_cannot_be_kept_is_told_and_ends_nothing(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".a.h5.tiles").mkdir()  # a file cannot be written there
    with caplog.at_level(logging.WARNING), pytest.raises(UserCodeError):
        predict(dataset, Breaks(2), out, **OPTIONS)
    assert "tiles under way are not kept" in caplog.text
    model = Breaks(100)
    assert len(predict(dataset, model, out, **OPTIONS).written) == 2
    assert model.tiles == sum(TILES.values())


def test_fewer_wanted_tiles_than_were_kept_are_all_that_is_written(
    dataset: Dataset, tmp_path: Path
) -> None:
    """Annotations were changed between two calls."""
    drawn = tmp_path / "drawn.geojson"

    def draw(right: int) -> None:
        ring = [[0, 0], [right, 0], [right, 200], [0, 200], [0, 0]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        properties = {"classification": {"name": "tumor"}}
        feature = {"type": "Feature", "geometry": shape, "properties": properties}
        drawn.write_text(json.dumps(feature))

    options: dict[str, Any] = {**OPTIONS, "annotations": lambda path: drawn, "batch_size": 4}
    draw(300)
    with pytest.raises(UserCodeError):
        predict(dataset, Breaks(3), tmp_path / "out", **options)
    draw(130)  # centres at 32 and 96 lie within
    done = predict(dataset, means, tmp_path / "out", **options)
    again = predict(dataset, means, tmp_path / "fresh", **options)
    assert files(done.written) == files(again.written)


def test_segment_tells_its_progress(dataset: Dataset, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def two(tiles: torch.Tensor) -> torch.Tensor:
        return tiles[..., :2].permute(0, 3, 1, 2).float()

    segment(dataset, two, tmp_path, progress=lambda *step: told.append(step), **OPTIONS)
    assert told[0] == (7, 68) and told[-1] == (68, 68)
