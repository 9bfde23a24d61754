"""The pictures of `pydmed-dali preview`, and that they show what a source really draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import CliRunner, Result

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, Point, PydmedError, Size
from pydmed_dali.cli.app import app
from pydmed_dali.preview.slide_preview import PreviewRequest, first_visits, sample_slide
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from pydmed_dali.worker.tissue_places import TissuePlan
from tests.scanned_slides import write_scn
from tests.support import folder_dataset, sum_up, take, write_picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide with tissue, one of glass in a folder below, and one that is none."""
    made = tmp_path_factory.mktemp("slides")
    write_tissue_slide(made / "fat.svs", Size(1600, 1200), tissue="fat", seed=1)
    write_picture(made / "more" / "glass.tif", np.full((500, 700, 3), 243, np.uint8))
    (made / "none.svs").write_bytes(b"no slide")
    return made


def _preview(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


def _feedback(result: Result) -> list[dict[str, Any]]:
    slides: list[dict[str, Any]] = json.loads(result.stdout)["slides"]
    return slides


def test_each_slide_that_can_be_read_gets_a_picture(folder: Path, tmp_path: Path) -> None:
    result = _preview(folder, "--out", tmp_path, "--chunk-size", 512, "--json")
    assert result.exit_code == 0
    fat, glass, none = _feedback(result)
    assert fat["path"] == str(folder / "fat.svs")
    assert fat["picture"] == str(tmp_path / "fat.svs.png")
    assert 0.5 < fat["tissue"] < 0.8 and 0.5 < fat["eligible"] < 0.9
    assert (glass["tissue"], glass["eligible"], glass["reason"]) == (0, 0, None)
    assert none["picture"] is None and "OpenSlide cannot open it" in none["reason"]
    pictures = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    assert pictures == [Path("fat.svs.png"), Path("more/glass.tif.png")]
    for path in pictures:
        with Image.open(tmp_path / path) as picture:
            assert picture.width == 1980 and 500 < picture.height < 1500
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50


def test_a_line_is_printed_for_each_slide(folder: Path, tmp_path: Path) -> None:
    result = _preview(folder, "--out", tmp_path, "--chunk-size", 512, "--chunks", 2)
    assert result.exit_code == 0
    assert str(tmp_path / "fat.svs.png") in result.stdout
    assert "0.0% tissue; 0.0% of all places may be drawn" in result.stdout
    assert "none.svs: OpenSlide cannot open it" in " ".join(result.stdout.split())


def test_one_slide_can_be_drawn_without_a_mask(folder: Path, tmp_path: Path) -> None:
    result = _preview(
        folder / "fat.svs", "--out", tmp_path, "--min-tissue", 0, "--level", 1, "--json"
    )
    (slide,) = _feedback(result)
    assert (slide["tissue"], slide["eligible"]) == (None, 1)
    assert (tmp_path / "fat.svs.png").is_file()


def test_a_mask_of_one_s_own_is_drawn(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(tmp_path / "fat.png")
    result = _preview(
        folder / "fat.svs",
        "--out",
        tmp_path / "out",
        "--masks",
        tmp_path,
        "--min-tissue",
        0.1,
        "--json",
    )
    (slide,) = _feedback(result)
    assert slide["tissue"] == 30 / 1200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop-size", "600", "--chunk-size", "512"], "does not fit in chunk_size=512"),
        (["--level", "0", "--mpp", "1"], "choose one of them"),
        (["--masks", "/nowhere"], "is no folder"),
        (["--out", "/dev/null"], "cannot be a folder"),
    ],
)
def test_options_that_cannot_work_are_refused(
    folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = _preview(folder / "fat.svs", "--out", tmp_path, *options)
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_the_exit_code_is_1_where_no_slide_can_be_read(folder: Path, tmp_path: Path) -> None:
    assert _preview(folder / "none.svs", "--out", tmp_path).exit_code == 1


@pytest.mark.parametrize("mpp", [None, 0.8])
def test_what_is_shown_is_what_a_source_begins_with(folder: Path, mpp: float | None) -> None:
    dataset = Dataset.from_folder(folder, patient=lambda path: path.name)
    dataset = Dataset(tuple(p for p in dataset.patients if p.id == "fat.svs"))
    plan = TissuePlan(0.7)
    wishes = PreviewRequest(
        Size(256, 256), Size(96, 96), None, mpp, 3, plan, None, chunks=4, crops=10, shown=10
    )
    drawn = sample_slide("fat", dataset.slides[0].path, first_visits(dataset, 3, 4)[0], wishes)
    options: dict[str, Any] = {"mpp": mpp, "min_tissue": 0.7, "seed": 3, "num_workers": 0}
    with BigChunkSource(
        dataset,
        chunk_size=256,
        crop_size=96,
        batch_size=10,
        resident=1,
        crops_per_chunk=10,
        **options,
    ) as source:
        run = sum_up(take(source, 4))
    for number, chunk in enumerate(drawn.chunks):
        batch = slice(10 * number, 10 * number + 10)
        y, x = (chunk.crops + np.array((chunk.origin.y, chunk.origin.x))).T
        for column, places, scale in zip(
            (InfoColumn.X, InfoColumn.Y), (x, y), drawn.view.downsample, strict=True
        ):
            np.testing.assert_array_equal(run["info"][batch, column], np.round(places * scale))
        if mpp is None:
            np.testing.assert_array_equal(run["image"][batch], np.stack(chunk.shown))
    assert len({chunk.origin for chunk in drawn.chunks}) > 1


def test_annotations_are_shown_at_the_resolution_that_is_read(folder: Path, tmp_path: Path) -> None:
    ring = [[200, 100], [1000, 100], [1000, 900], [200, 900], [200, 100]]
    hole = [[400, 300], [400, 500], [600, 500], [600, 300], [400, 300]]
    drawn = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring, hole]},
        "properties": {"classification": {"name": "tumor"}},
    }
    files = tmp_path / "drawn"
    files.mkdir()
    (files / "fat.geojson").write_text(json.dumps(drawn))
    options = ["--level", 1, "--min-tissue", 0, "--chunk-size", 256, "--chunks", 1, "--json"]
    pictures = []
    for number, more in enumerate(([], ["--annotations", files])):
        out = tmp_path / str(number)
        (told,) = _feedback(_preview(folder / "fat.svs", "--out", out, *options, *more))
        assert told["reason"] is None
        with Image.open(told["picture"]) as picture:
            pictures.append(np.asarray(picture.convert("RGB"), np.int16))
    plain, annotated = pictures
    assert plain.shape[1] == annotated.shape[1] and not np.array_equal(plain, annotated)

    dataset = Dataset.from_folder(folder)
    number = [record.path.name for record in dataset.slides].index("fat.svs")
    wishes = PreviewRequest(
        chunk=Size(256, 256),
        crop=Size(64, 64),
        level=1,
        mpp=None,
        seed=0,
        tissue=None,
        cache=None,
        chunks=1,
        crops=4,
        shown=4,
        annotations={dataset.slides[number].path: files / "fat.geojson"},
    )
    slide = sample_slide(
        "fat", dataset.slides[number].path, first_visits(dataset, 0, 1)[number], wishes
    )
    (polygon,) = slide.regions["tumor"]
    scale = slide.view.downsample[0]
    assert scale > 1
    (chunk,) = slide.chunks
    for (y, x), label in zip(chunk.crops[:4], chunk.labels, strict=True):
        centre = shapely.Point(chunk.origin.x + x + 32.5, chunk.origin.y + y + 32.5)
        assert label == ("tumor" if polygon.covers(centre) else "")
    assert polygon.bounds == pytest.approx([200 / scale, 100 / scale, 1000 / scale, 900 / scale])
    assert polygon.area == pytest.approx((800 * 800 - 200 * 200) / scale**2)


def test_annotations_that_are_not_there_are_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = ["--out", tmp_path / "out", "--annotations", tmp_path / "empty"]
    result = _preview(folder / "fat.svs", *options)
    assert result.exit_code != 0
    assert isinstance(result.exception, PydmedError | SystemExit)
    assert not (tmp_path / "out").exists()


def test_what_is_drawn_in_qupath_lies_where_it_was_scanned(tmp_path: Path) -> None:
    pixels = np.full((400, 500, 3), 240, np.uint8)
    pixels[100:300, 50:250] = (150, 40, 120)
    slide = write_scn(tmp_path / "slides" / "a.scn", pixels, Point(300, 600), Size(1200, 1400))
    ring = [[50, 100], [250, 100], [250, 300], [50, 300], [50, 100]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    drawn = {"type": "Feature", "geometry": shape, "properties": {"label": "tumor"}}
    (tmp_path / "a.geojson").write_text(json.dumps(drawn))
    dataset = folder_dataset(tmp_path / "slides")
    wishes = PreviewRequest(
        *(Size(256, 256), Size(64, 64), 0, None, 0, None, None, 4, 8, 8),
        annotations={slide: tmp_path / "a.geojson"},
    )
    found = sample_slide("a", slide, first_visits(dataset, 0, 4)[0], wishes)
    (polygon,) = found.regions["tumor"]
    assert polygon.bounds == (350, 700, 550, 900)
    for chunk in found.chunks:
        for (y, x), shown, label in zip(chunk.crops, chunk.shown, chunk.labels, strict=True):
            assert 300 <= chunk.origin.x + x <= 800 - 64
            assert 600 <= chunk.origin.y + y <= 1000 - 64
            assert (shown[32, 32] == (150, 40, 120)).all() == (label == "tumor")
