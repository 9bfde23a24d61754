"""Pictures of classes against plain loops over all tiles, and opened as viewers open them."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from pydmed_dali import BigChunkLoader, Dataset, Point, Size, rasterize, read_annotations
from pydmed_dali.errors import OptionError, ResultError, SlideReadError, UserCodeError
from pydmed_dali.geometry import Region
from pydmed_dali.infer import contours, segment
from pydmed_dali.infer.class_map import write_classes
from pydmed_dali.infer.stitch import blending_weights
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import View
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide
from tests.support import folder_dataset

TILE = 64
SIZES = {"a": Size(300, 200), "b": Size(40, 30), "c": Size(260, 321)}
OPTIONS: dict[str, Any] = {
    "model_name": "colours",
    "tile_size": TILE,
    "chunk_size": 256,
    "batch_size": 7,
    "num_workers": 0,
}


def model(step: int, classes: int = 3) -> Any:
    """Scores from the colours, and from the place in the tile, so that blending decides."""

    def score(tiles: torch.Tensor) -> torch.Tensor:
        colours = tiles.permute(0, 3, 1, 2).float()
        side = TILE // step
        ramp = torch.linspace(-60, 60, side)
        scores = torch.nn.functional.avg_pool2d(colours, step) * torch.tensor([1.0, 0.9, 1.1]).view(
            1, 3, 1, 1
        )
        scores[:, 0] += ramp
        scores[:, 1] += ramp[:, None]
        return scores[:, :classes]

    return score


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three slides; b is smaller than a tile."""
    (tmp_path / "slides").mkdir()
    for name, size in SIZES.items():
        write_coordinate_slide(tmp_path / "slides" / f"{name}.tif", size, levels=1, mpp=0.5)
    return folder_dataset(tmp_path / "slides")


def reference(size: Size, stride: int, step: int, window: str) -> NDArray[np.float64]:
    """(height, width, 3): the blended scores of a coordinate slide."""
    rows, columns = (max(-(-(side - TILE) // stride), 0) + 1 for side in (size.height, size.width))
    side = TILE // step
    shape = ((rows - 1) * stride // step + side, (columns - 1) * stride // step + side)
    sums, total = np.zeros((*shape, 3)), np.zeros(shape)
    weights = blending_weights(window, side, side).astype(np.float64)
    for row in range(rows):
        for column in range(columns):
            x, y = column * stride, row * stride
            tile = coordinate_pixels(Point(x, y), Size(TILE, TILE), 0)
            tile[max(size.height - y, 0) :] = 255
            tile[:, max(size.width - x, 0) :] = 255
            scores = model(step)(torch.from_numpy(tile[None]))[0].permute(1, 2, 0).numpy()
            place = (slice(y // step, y // step + side), slice(x // step, x // step + side))
            sums[place] += scores * weights[..., None]
            total[place] += weights
    blended: NDArray[np.float64] = sums / total[..., None]
    return blended[: -(-size.height // step), : -(-size.width // step)]


@pytest.mark.parametrize(
    ("stride", "step", "window"),
    [(64, 1, "hann"), (32, 1, "hann"), (48, 4, "mean"), (40, 2, "hann")],
)
def test_the_class_with_the_highest_blended_score_is_written(
    dataset: Dataset, tmp_path: Path, stride: int, step: int, window: str
) -> None:
    options: dict[str, Any] = {**OPTIONS, "stride": stride, "window": window}
    done = segment(dataset, model(step), tmp_path / "out", **options)
    assert [file.name for file in done.written] == ["a.tif", "b.tif", "c.tif"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.tif", "b.tif", "c.tif", "run.json"}
    for name, size in SIZES.items():
        scores = reference(size, stride, step, window)
        found = tifffile.imread(tmp_path / "out" / f"{name}.tif")
        assert found.shape == scores.shape[:2]
        first, second = np.sort(scores, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
        clear = first - second > 1e-3
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(found[clear], scores.argmax(axis=-1)[clear])
        assert len(np.unique(found)) > 1
    assert segment(dataset, model(step), tmp_path / "out", **options).kept == done.written


def test_pixels_that_no_tile_covers_are_told(dataset: Dataset, tmp_path: Path) -> None:
    ring = [[0, 0], [130, 0], [130, 330], [0, 330], [0, 0]]
    drawn = {"type": "Polygon", "coordinates": [ring]}
    file = tmp_path / "a.geojson"
    file.write_text(
        '{"type": "Feature", "properties": {"classification": {"name": "x"}}, "geometry": '
        + str(drawn).replace("'", '"')
        + "}"
    )
    options = {**OPTIONS, "annotations": lambda p: file if p.stem == "a" else None}
    (written,) = segment(dataset, model(1), tmp_path / "out", **options).written
    found = tifffile.imread(written)
    assert (found[:, :128] < 3).all() and (found[:, 128:] == 255).all()


@pytest.mark.parametrize("stride", [64, 32])
def test_rows_of_chunks_without_any_tile_are_told(tmp_path: Path, stride: int) -> None:
    """Two regions, with several rows of BigChunks between them."""
    (tmp_path / "slides").mkdir()
    write_coordinate_slide(tmp_path / "slides" / "a.tif", Size(192, 1300), levels=1)
    features = []
    for top in (70, 1000):
        ring = [[0, top], [192, top], [192, top + 60], [0, top + 60], [0, top]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        properties = {"classification": {"name": "x"}}
        features.append({"type": "Feature", "geometry": shape, "properties": properties})
    drawn = tmp_path / "drawn.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    options = {**OPTIONS, "chunk_size": 130, "stride": stride, "annotations": lambda path: drawn}
    dataset = folder_dataset(tmp_path / "slides")
    (written,) = segment(dataset, model(1), tmp_path / "out", **options).written
    found = tifffile.imread(written)
    covered = np.zeros((1300, 192), np.bool_)
    for y in range(0, 1300, stride):
        if 70 <= y + 32 < 130 or 1000 <= y + 32 < 1060:
            covered[y : y + 64] = True
    assert 100 < covered[:, 0].sum() < 300
    np.testing.assert_array_equal(found != 255, covered)
    scores = reference(Size(192, 1300), stride, 1, "hann")
    first, second = np.sort(scores, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
    inner = np.zeros_like(covered)  # where all tiles that cover a pixel are wanted
    inner[[y for y in range(64, 1236) if covered[y - 64 : y + 65].all()]] = True
    inner = inner if stride < 64 else covered
    clear = inner & (first - second > 1e-3)
    np.testing.assert_array_equal(found[clear], scores.argmax(axis=-1)[clear])


class Breaks:
    """A model that raises at a batch; keeps how many tiles it answered for."""

    def __init__(self, step: int, at: int) -> None:
        self._model, self._left, self.tiles = model(step), at, 0

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        if not self._left:
            raise ValueError("out of luck")
        self._left -= 1
        self.tiles += len(tiles)
        scores: torch.Tensor = self._model(tiles)
        return scores


def flipped(content: bytes, name: bytes) -> bytes:
    """With a bit of an array, behind its name and header, turned."""
    at = content.index(name) + 300
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def zeroed(file: Path) -> None:
    """Of the same size, as after a loss of power that came before its bytes were on the disk."""
    size = file.stat().st_size
    with file.open("wb") as opened:
        opened.truncate(size)


def test_a_slide_that_goes_bad_on_the_way_leaves_no_picture(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    for name in "ab":
        write_coordinate_slide(
            tmp_path / "slides" / f"{name}.tif", Size(200, 1300), levels=1, mpp=0.5
        )
    options: dict[str, Any] = {**OPTIONS, "chunk_size": 130, "loader": HasAHoleBelow()}
    out = tmp_path / "out"
    done = segment(folder_dataset(tmp_path / "slides"), model(1), out, **options)
    assert [path.name for path in done.slides_skipped] == ["a.tif"]
    assert sorted(path.name for path in out.iterdir()) == ["b.tif", "run.json"]


class HasAHoleBelow(BigChunkLoader):
    """One slide cannot be read from some place downwards."""

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Any, parts: Sequence[Region]
    ) -> None:
        if slide.path.stem == "a" and origin.y > 500:
            raise SlideReadError(f"{slide.path}: a hole in the disk")
        super().extract_bigchunk(slide, view, origin, out, parts)


@pytest.mark.parametrize(("stride", "step"), [(64, 1), (32, 2), (48, 4)])
@pytest.mark.parametrize("chunk", [130, 256])
def test_a_call_goes_on_where_the_last_row_of_chunks_began(
    tmp_path: Path, stride: int, step: int, chunk: int
) -> None:
    (tmp_path / "slides").mkdir()
    write_coordinate_slide(tmp_path / "slides" / "a.tif", Size(200, 1300), levels=1, mpp=0.5)
    dataset = folder_dataset(tmp_path / "slides")
    options: dict[str, Any] = {**OPTIONS, "stride": stride, "chunk_size": 130}
    (whole,) = segment(dataset, model(step), tmp_path / "whole", **options).written
    out = tmp_path / "out"
    every = Breaks(step, 1000)
    segment(dataset, every, tmp_path / "count", **options)
    seen = 0
    for at in (1, 4, 4, 5):  # the first ends within the first row of chunks
        broken = Breaks(step, at)
        with pytest.raises(UserCodeError, match="out of luck"):
            segment(dataset, broken, out, **options)
        seen += broken.tiles
    assert {path.name for path in (out / ".a.tif.rows").iterdir()} == {"classes", "state.npz"}
    last = Breaks(step, 1000)
    (written,) = segment(dataset, last, out, **{**options, "chunk_size": chunk}).written
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "run.json"]
    if chunk == 130:
        assert written.read_bytes() == whole.read_bytes()
    else:  # sums of another order: equal scores apart
        assert (tifffile.imread(written) == tifffile.imread(whole)).mean() > 0.999
    # Of each call at most the tiles of one row of chunks, and a batch, are run again.
    in_a_row = every.tiles // (1300 // stride) * (130 // stride + 1)
    assert every.tiles - last.tiles > 0 and seen + last.tiles < every.tiles + 5 * (in_a_row + 7)


def test_what_is_kept_of_a_changed_slide_or_damaged_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    path = tmp_path / "slides" / "a.tif"
    write_coordinate_slide(path, Size(200, 1300), levels=1, mpp=0.5)
    dataset, out = folder_dataset(tmp_path / "slides"), tmp_path / "out"
    options: dict[str, Any] = {**OPTIONS, "chunk_size": 130, "stride": 32}
    (whole,) = segment(dataset, model(1), tmp_path / "whole", **options).written
    state = out / ".a.tif.rows" / "state.npz"
    for damage in (
        lambda: state.write_bytes(state.read_bytes()[:-30]),
        lambda: state.write_bytes(flipped(state.read_bytes(), b"sums.npy")),
        state.unlink,
        lambda: state.write_bytes(b""),
        lambda: (state.parent / "classes").write_bytes(b"short"),
        lambda: zeroed(state.parent / "classes"),
        partial(write_coordinate_slide, path, Size(200, 1300), levels=1, mpp=0.5, tile=128),
    ):
        with pytest.raises(UserCodeError):
            segment(dataset, Breaks(1, 12), out, **options)
        damage()
        whole.unlink()  # results tell which file they are of: here the one of now
        (whole,) = segment(dataset, model(1), tmp_path / "whole", **options).written
        anew = Breaks(1, 1000)
        (written,) = segment(dataset, anew, out, **options).written
        assert anew.tiles in (6 * 40, 6 * 40 + 7), "all of them, and a batch before it was noticed"
        assert written.read_bytes() == whole.read_bytes()
        assert sorted(path.name for path in out.iterdir()) == ["a.tif", "run.json"]
        written.unlink()


def test_openslide_shows_the_classes_in_colours_at_every_level(tmp_path: Path) -> None:
    classes = (np.indices((1100, 1500)).sum(axis=0) // 300 % 3).astype(np.uint8)
    classes[:100] = 255
    write_classes(tmp_path / "a.tif", classes, (2.0, 2.0), (8.0, 8.0))
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions == ((1500, 1100), (750, 550), (375, 275))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(2.0)
        for level in range(3):
            step = 2**level
            size = slide.level_dimensions[level]
            image = np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))
            colours = {0: (225, 225, 225), 1: (230, 159, 0), 2: (86, 180, 233), 255: (255,) * 3}
            wanted = np.zeros((*classes[::step, ::step].shape, 3), np.uint8)
            for number, colour in colours.items():
                wanted[classes[::step, ::step] == number] = colour
            np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize(
    ("answer", "options", "words"),
    [
        (lambda t: model(1)(t)[:, :1], {}, r"\(N, K, 64 / n, 64 / n\) with 2 <= K"),
        (lambda t: model(1)(t)[:, :, :50], {}, r"of shape \(7, 3, 50, 64\)"),
        (model(16), {"stride": 40}, "parts the stride 40x40"),
        (lambda t: model(1)(t) * torch.nan, {}, "no finite number for 7 of 7 tiles"),
    ],
)
def test_what_a_model_must_not_return_is_refused(
    dataset: Dataset, tmp_path: Path, answer: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserCodeError, match=words):
        segment(dataset, answer, tmp_path / "out", **OPTIONS, **options)
    assert not list((tmp_path / "out").iterdir())


def test_windows_that_there_are_not_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="window must be one of hann, mean, not 'box'"):
        segment(dataset, model(1), tmp_path / "out", window="box", **OPTIONS)


def test_a_disk_without_room_for_the_scores_is_told(dataset: Dataset, tmp_path: Path) -> None:
    """As on a full disk: from the first batch on no file can grow beyond 9,000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(tiles: torch.Tensor) -> torch.Tensor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, limits[1]))
        scores: torch.Tensor = model(1)(tiles)
        return scores

    try:
        with pytest.raises(ResultError, match=r"no room for the scores of a slide under way, "):
            segment(dataset, filling, tmp_path / "out", **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("step", [1, 4])
def test_contours_are_the_classes_again(tmp_path: Path, step: int) -> None:
    """Read by this package's own reader of annotations, and painted."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 3, (12, 15)).astype(np.uint8)
    classes = np.kron(blocks, np.ones((5, 4), np.uint8))
    classes[20:23, 30:33] = 2  # a hole, or an island
    write_classes(tmp_path / "a.tif", classes, None, (float(step), float(step)))
    contours(tmp_path / "a.tif", {1: "tumor", 2: "stroma"}, tmp_path / "a.geojson")
    drawn = read_annotations(tmp_path / "a.geojson")
    assert drawn.classes == ("stroma", "tumor")
    size = Size(classes.shape[1], classes.shape[0])
    found = rasterize(drawn, ["tumor", "stroma"], Point(0, 0), size, (step, step))
    np.testing.assert_array_equal(found, classes)


def test_contours_of_a_coarser_level(tmp_path: Path) -> None:
    classes = np.zeros((700, 1100), np.uint8)
    classes[101:401, 202:603] = 1
    write_classes(tmp_path / "a.tif", classes, None, (4.0, 4.0))
    contours(tmp_path / "a.tif", {1: "x"}, tmp_path / "a.geojson", level=1)
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    corners = np.array(feature["geometry"]["coordinates"][0][0])
    # Of each two rows and columns the first is in the level: 51..200 and 101..301.
    assert corners.min(axis=0).tolist() == [101 * 8, 51 * 8]
    assert corners.max(axis=0).tolist() == [302 * 8, 201 * 8]
    with pytest.raises(OptionError, match=r"level=3 .* levels 0\.\.2"):
        contours(tmp_path / "a.tif", {1: "x"}, tmp_path / "a.geojson", level=3)


def test_contours_of_another_picture_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), description="a picture")
    with pytest.raises(OptionError, match="does not tell the size of its pixels"):
        contours(tmp_path / "a.tif", {1: "x"}, tmp_path / "a.geojson")
