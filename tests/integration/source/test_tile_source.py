"""Every tile of every slide comes once, with the pixels that its `info` names."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pydmed_dali import BigChunkLoader, Dataset, InfoColumn, Size, SmallChunkIterator, TileSource
from pydmed_dali.errors import (
    DatasetError,
    OptionError,
    RingMemoryError,
    SlideChangedError,
    SlideError,
    SourceClosedError,
    StateError,
)
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.ring import arena
from pydmed_dali.slide.slide import Slide
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import NAMES, Batch, assert_coordinates, folder_dataset, sum_up

SIZES = (Size(600, 440), Size(900, 300))
TINY = Size(40, 24)


def make_slides(folder: Path, sizes: Sequence[Size]) -> Dataset:
    (folder / "some").mkdir()
    for number, size in enumerate(sizes):
        write_coordinate_slide(folder / "some" / f"{number}.tif", size, levels=2, mpp=0.5)
    return folder_dataset(folder)


def places(extent: int, tile: int, stride: int) -> list[int]:
    """Where tiles start along an axis: until the axis is covered."""
    found = [0]
    while found[-1] + tile < extent:
        found.append(found[-1] + stride)
    return found


def check(
    batches: list[Batch], dataset: Dataset, sizes: Sequence[Size], level: int, stride: Size
) -> None:
    """Pixels, completeness and order of a whole run."""
    seen: list[tuple[int, int, int]] = []
    for batch in batches:
        for number, row in enumerate(batch["info"].numpy()):
            size, slide = sizes[int(row[InfoColumn.SLIDE])], int(row[InfoColumn.SLIDE])
            extents = {level: Size(-(-size.width >> level), -(-size.height >> level))}
            one = {name: batch[name][number : number + 1] for name in NAMES}
            assert_coordinates(one, extents)
            assert row[InfoColumn.VALID] == 1
            seen.append((slide, int(row[InfoColumn.Y]), int(row[InfoColumn.X])))
    tile = Size(int(row[InfoColumn.WIDTH]), int(row[InfoColumn.HEIGHT]))
    wanted = {
        (slide, y << level, x << level)
        for slide, size in enumerate(sizes)
        for y in places(size.height >> level, tile.height, stride.height)
        for x in places(size.width >> level, tile.width, stride.width)
    }
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted
    assert [slide for slide, _, _ in seen] == sorted(slide for slide, _, _ in seen)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("level", "tile", "stride", "chunk", "batch"),
    [
        (0, Size(64, 64), Size(64, 64), 256, 10),
        (0, Size(96, 50), Size(70, 33), 300, 7),  # overlap; batches that end within a chunk
        (1, Size(64, 64), Size(48, 64), 128, 64),  # chunks of few tiles, batches of many chunks
    ],
)
def test_every_tile_comes_once_with_the_pixels_that_info_names(
    tmp_path: Path, workers: int, level: int, tile: Size, stride: Size, chunk: int, batch: int
) -> None:
    sizes = (*SIZES, TINY)  # the last one is smaller than a tile
    dataset = make_slides(tmp_path, sizes)
    with TileSource(
        dataset,
        tile_size=tile,
        stride=stride,
        level=level,
        chunk_size=chunk,
        batch_size=batch,
        num_workers=workers,
    ) as source:
        loader = SmallChunkIterator(basic(source), NAMES)
        assert len(loader) == source.batches_per_epoch
        batches = list(loader)
        assert len(batches) == len(loader)
        check(batches, dataset, sizes, level, stride)
        chunks = sum_up(batches)["info"][
            :, [InfoColumn.SLIDE, InfoColumn.CHUNK_X, InfoColumn.CHUNK_Y]
        ]
        assert source.stats().chunks_read == len(np.unique(chunks, axis=0)), "or read in vain"
        assert source.tiles_per_slide == {
            slide: int((sum_up(batches)["info"][:, InfoColumn.SLIDE] == slide).sum())
            for slide in range(len(sizes))
        }
        again = sum_up(list(loader))
    for name, values in sum_up(batches).items():
        np.testing.assert_array_equal(again[name], values)


@dataclass
class SignsIn(BigChunkLoader):
    """Leaves the number of each process that opens slides in a folder, and of each that began."""

    folder: Path

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()} began").touch(exist_ok=os.getpid() == state["parent"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "parent": os.getpid()}

    def open_slide(self, path: Path) -> Slide:
        (self.folder / str(os.getpid())).touch()
        return super().open_slide(path)


@pytest.mark.parametrize("sizes", [(*SIZES, TINY), SIZES[:1]])
def test_the_processes_that_looked_at_the_slides_go_on_to_read_them(
    tmp_path: Path, sizes: tuple[Size, ...]
) -> None:
    """As many as there are slides look, and as many as were asked for read."""
    dataset, signs = make_slides(tmp_path, sizes), tmp_path / "signs"
    signs.mkdir()
    options: dict[str, Any] = {"tile_size": 64, "chunk_size": 128, "batch_size": 8}
    with TileSource(dataset, num_workers=2, loader=SignsIn(signs), **options) as source:
        looked = opened_by(signs)
        assert looked
        check(list(SmallChunkIterator(basic(source), NAMES)), dataset, sizes, 0, Size(64, 64))
        workers = {str(child.pid) for child in psutil.Process().children()}
    assert looked <= workers and opened_by(signs) <= workers and len(workers) == 2


def opened_by(signs: Path) -> set[str]:
    return {sign for sign in os.listdir(signs) if not sign.endswith("began")}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_closed_source_keeps_no_file_open(tmp_path: Path, workers: int) -> None:
    dataset = make_slides(tmp_path, SIZES)

    def use() -> int:
        with TileSource(dataset, tile_size=64, batch_size=8, num_workers=workers) as source:
            for _ in SmallChunkIterator(basic(source), NAMES):
                break
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = use()
    assert use() <= before


def test_processes_that_end_before_they_read_are_replaced(tmp_path: Path) -> None:
    dataset = make_slides(tmp_path, SIZES)
    options: dict[str, Any] = {"tile_size": 64, "chunk_size": 128, "batch_size": 8}
    with TileSource(dataset, num_workers=2, **options) as source:
        for child in psutil.Process().children():
            child.kill()
        check(list(SmallChunkIterator(basic(source), NAMES)), dataset, SIZES, 0, Size(64, 64))
        assert source.stats().worker_deaths == 2


def test_a_ring_that_is_too_large_ends_the_processes_that_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_slides(tmp_path, SIZES)
    monkeypatch.setattr(arena, "free_memory", lambda: 1 << 20)
    with pytest.raises(RingMemoryError):
        TileSource(dataset, tile_size=64, num_workers=2)
    assert psutil.Process().children() == []


def test_tiles_come_at_a_resolution_and_are_the_same_after_a_break(tmp_path: Path) -> None:
    dataset = make_slides(tmp_path, SIZES)
    options: dict[str, Any] = {"tile_size": 64, "chunk_size": 256, "batch_size": 8}
    with TileSource(dataset, mpp=0.8, num_workers=2, **options) as source:
        loader = SmallChunkIterator(basic(source), NAMES)
        for _ in loader:
            break
        batches = list(loader)
        info = sum_up(batches)["info"]
        assert (info[:, InfoColumn.MPP_PM] == 800_000).all()
        # 600 x 440 pixels at 0.5 are 375 x 275 at 0.8: 6 x 5 tiles; 900 x 300 are 562 x 187.
        assert source.tiles_per_slide == {0: 30, 1: 27}
        assert len(np.unique(info[:, [InfoColumn.SLIDE, InfoColumn.X, InfoColumn.Y]], axis=0)) == 57


@pytest.mark.parametrize("level", [0, 1])
def test_tiles_that_are_done_do_not_come_again(tmp_path: Path, level: int) -> None:
    dataset = make_slides(tmp_path, (*SIZES, TINY))
    options: dict[str, Any] = {"tile_size": 64, "level": level, "num_workers": 0}

    def run(chunk: int, done: dict[Path, Any]) -> tuple[dict[str, Any], TileSource]:
        with TileSource(dataset, chunk_size=chunk, batch_size=8, done=done, **options) as source:
            return sum_up(list(SmallChunkIterator(basic(source), NAMES))), source

    def corners(batch: dict[str, Any]) -> Any:
        return np.asarray(batch["info"])[:, [InfoColumn.SLIDE, InfoColumn.Y, InfoColumn.X]]

    paths = [record.path for record in dataset.slides]
    whole = corners(run(256, {})[0])
    first = whole[:12]
    nowhere = np.array([[-640, 0], [1 << 40, 64]])
    done = {paths[0]: np.concatenate([first[:, [2, 1]], nowhere]), paths[2]: np.zeros((1, 2), int)}
    batch, source = run(128, done)
    rest = corners(batch)
    # Of the third slide nothing would be left, so that it comes whole.
    assert sorted(map(tuple, np.concatenate([first, rest]).tolist())) == sorted(
        map(tuple, whole.tolist())
    )
    assert source.tiles_per_slide[0] == (whole[:, 0] == 0).sum() - 12
    assert source.is_done(0, done[paths[0]]).tolist() == [True] * 12 + [False] * 2
    assert not source.is_done(0, rest[rest[:, 0] == 0][:, [2, 1]]).any()
    assert not source.is_done(2, done[paths[2]]).any()


def test_more_wanted_tiles_than_a_message_holds(tmp_path: Path) -> None:
    dataset = make_slides(tmp_path, [Size(2600, 2600)])
    ring = [[0, 0], [1300, 0], [2600, 2600], [0, 2600], [0, 0]]
    drawn = tmp_path / "drawn.geojson"
    shape = {"type": "Polygon", "coordinates": [ring]}
    properties = {"classification": {"name": "x"}}
    drawn.write_text(json.dumps({"type": "Feature", "geometry": shape, "properties": properties}))
    options: dict[str, Any] = {"tile_size": 8, "stride": 4, "chunk_size": 2600}
    options |= {"annotations": lambda path: drawn, "device": "cpu"}
    shapes, grids = [], []
    for workers in (0, 1):
        with TileSource(dataset, num_workers=workers, **options) as source:
            shapes.append(source.grid_shapes[0])
            grids.append(source.tiles_per_slide[0])
    assert shapes[0] == shapes[1] == (649, 649)
    assert grids[0] == grids[1] == pytest.approx(649 * 649 * 0.75, rel=0.01)


def test_copies_that_fill_a_batch_are_not_valid_in_dalis_own_output(tmp_path: Path) -> None:
    dataset = make_slides(tmp_path, [Size(200, 64)])
    with TileSource(dataset, tile_size=64, batch_size=8, num_workers=0, device="cpu") as source:
        pipeline = basic(source)
        pipeline.build()
        info = pipeline.run()[2].as_array()
        assert info[:, InfoColumn.VALID].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
        assert info[:, InfoColumn.X].tolist() == [0, 64, 128, 192, 192, 192, 192, 192]
        with pytest.raises(StopIteration):
            pipeline.run()


def test_a_slide_that_cannot_be_opened_is_skipped_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_slides(tmp_path, SIZES)
    broken = dataset.slides[0].path
    broken.write_bytes(b"no slide")
    with TileSource(dataset, tile_size=64, num_workers=0) as source:
        (batch,) = SmallChunkIterator(basic(source), NAMES)
        assert set(batch["info"][:, InfoColumn.SLIDE].tolist()) == {1}
        assert list(source.report().slides_skipped) == [broken]
        assert list(source.stats().slides_skipped) == [broken]
    assert f"{broken}" in caplog.text and "the slide is skipped" in caplog.text


def test_no_slide_that_can_be_read_is_refused(tmp_path: Path) -> None:
    dataset = make_slides(tmp_path, SIZES)
    with pytest.raises(DatasetError, match=r"none of 2 slides .*\n.*has levels 0\.\.1"):
        TileSource(dataset, level=7, num_workers=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_slide_that_goes_bad_ends_the_run_and_is_named(tmp_path: Path, workers: int) -> None:
    dataset = make_slides(tmp_path, SIZES)
    second = dataset.slides[1].path
    with TileSource(dataset, tile_size=64, batch_size=10, num_workers=workers) as source:
        # As large as before, but no longer what its directory tells.
        second.write_bytes(second.read_bytes()[:2000].ljust(second.stat().st_size, b"\0"))
        with pytest.raises(SlideError, match=str(second)):
            list(SmallChunkIterator(basic(source), NAMES))


def test_a_slide_of_another_size_than_counted_ends_the_run(tmp_path: Path) -> None:
    dataset = make_slides(tmp_path, SIZES)
    with TileSource(dataset, tile_size=64, batch_size=10, num_workers=0) as source:
        write_coordinate_slide(dataset.slides[0].path, Size(700, 440), levels=2)
        with pytest.raises(SlideChangedError, match="700x440 pixels, and had 600x440"):
            list(SmallChunkIterator(basic(source), NAMES))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stride": 65}, "stride=65x65 is more than tile_size=64x64"),
        ({"stride": 0}, "stride must be at least 1 pixel"),
        ({"chunk_size": 63}, "tile_size=64x64 does not fit in chunk_size=63x63"),
        ({"level": 0, "mpp": 0.5}, "level=0 and mpp=0.5 were both given"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1"),
    ],
)
def test_options_that_cannot_work_are_refused(
    coordinates: Dataset, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        TileSource(coordinates, **{"tile_size": 64, "num_workers": 0, **options})


def test_there_is_no_state_to_save_and_a_closed_source_is_over(coordinates: Dataset) -> None:
    with TileSource(coordinates, tile_size=256, batch_size=8, num_workers=0) as source:
        loader = SmallChunkIterator(basic(source), NAMES)
        next(iter(loader))
        with pytest.raises(StateError, match="a TileSource has no state"):
            loader.state_dict()
        with pytest.raises(StateError, match="a TileSource has no state"):
            loader.load_state_dict({})
    with pytest.raises(SourceClosedError):
        source._refuse_if_over()
