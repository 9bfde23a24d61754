"""The demonstration in miniature: slides made, a network trained and tested, a picture drawn."""

import json
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from pydmed_dali import Dataset, InfoColumn, PydmedError
from pydmed_dali.demo.cohort import Cohort
from pydmed_dali.demo.crop_recorder import CropRecorder
from pydmed_dali.demo.network import TissueNet, on_ground, unnormalised
from pydmed_dali.demo.own_slides import stream_own_slides
from pydmed_dali.demo.report import Report
from pydmed_dali.demo.settings import Settings
from pydmed_dali.demo.slide_maker import make_slide
from pydmed_dali.demo.slide_view import view_slides
from pydmed_dali.demo.synthetic_slides import check_accuracy, train_on_synthetic_slides
from pydmed_dali.demo.thumbnail import thumbnail
from pydmed_dali.demo.training import stream
from pydmed_dali.geometry import Size
from pydmed_dali.pipelines.classification import MEAN, STD
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide

TISSUES = ("fat", "stroma", "tumor")
COHORT = Cohort(seed=0, size=Size(1024, 1024), train=1, test=1, tissues=TISSUES)


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    yield
    assert psutil.Process().children(recursive=True) == []


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(file=StringIO()))


def settings(out: Path, steps: int = 6) -> Settings:
    return Settings(
        out=out, steps=steps, chunk_size=512, crop_size=64, batch_size=16, num_workers=1
    )


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The folder and the report of one small training run."""
    out = tmp_path_factory.mktemp("demo")
    progress = Progress(console=Console(file=StringIO()))
    return out, train_on_synthetic_slides(settings(out), progress, COHORT)


def test_training_reports_what_a_program_may_read(lesson: tuple[Path, Report]) -> None:
    out, report = lesson
    found = json.loads(json.dumps(report.as_dict()))
    assert 0 <= found["accuracy"] <= 1
    assert set(found["accuracy_per_class"]) == set(TISSUES)
    assert 0 <= found["left_out_in_training"] < 1
    assert 0 <= found["left_out_in_test"] < 1
    assert found["test_crops"] > 0
    assert found["steps"] == 6
    assert found["batch_shape"] == [16, 3, 64, 64]
    assert found["picture"] == str(out / "demo.png")
    assert found["seconds"] > 0
    assert found["crops_per_second"] > 0
    assert 0 <= found["starved_fraction"] <= 1
    assert found["chunks_read"] >= 3
    assert found["slides_skipped"] == []
    assert found["device"] in ("cpu", "gpu")


def test_no_slide_is_both_trained_and_tested_on(lesson: tuple[Path, Report]) -> None:
    out, report = lesson
    found = report.as_dict()
    assert found["slides_used"] == [str(out / f"train/{t}/{t}-0.svs") for t in TISSUES]
    assert found["test_slides"] == [str(out / f"test/{t}/{t}-1.svs") for t in TISSUES]


def test_the_picture_is_a_png_for_a_screen(lesson: tuple[Path, Report]) -> None:
    out, _ = lesson
    with Image.open(out / "demo.png") as picture:
        assert picture.format == "PNG"
        assert 1500 <= picture.width <= 3000
        assert 800 <= picture.height <= 2000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_demonstration_learns(tmp_path: Path, progress: Progress) -> None:
    """As `make demo` runs it, but on smaller slides and for fewer steps: a minute on one core."""
    whole = Settings(out=tmp_path, steps=150, crop_size=128)
    report = train_on_synthetic_slides(whole, progress, Cohort(size=Size(4096, 4096)))
    check_accuracy(report)
    assert len(report.stats.reads_per_slide) == 12


def test_too_low_an_accuracy_is_an_error(lesson: tuple[Path, Report]) -> None:
    _, report = lesson
    assert report.lesson is not None
    with pytest.raises(PydmedError, match=r"0\.500, less than 0\.9"):
        check_accuracy(replace(report, lesson=replace(report.lesson, accuracy=0.5)))
    check_accuracy(replace(report, lesson=replace(report.lesson, accuracy=0.95)))


def test_an_identical_cohort_keeps_the_slides(tmp_path: Path, progress: Progress) -> None:
    cohort = Cohort(seed=3, size=Size(300, 300), train=1, test=1, tissues=("fat",))
    cohort.make(tmp_path, progress)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.svs")}
    cohort.make(tmp_path, progress)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.svs")} == before


def test_another_cohort_replaces_the_slides_and_nothing_else(
    tmp_path: Path, progress: Progress
) -> None:
    Cohort(seed=3, size=Size(300, 300), train=2, test=1, tissues=("fat",)).make(tmp_path, progress)
    bystander = tmp_path / "train" / "fat" / "mine.txt"
    bystander.touch()
    other = Cohort(seed=4, size=Size(320, 320), train=1, test=1, tissues=("fat",))
    train_set, test_set = other.make(tmp_path, progress)
    assert [record.path for record in train_set.slides] == [tmp_path / "train/fat/fat-0.svs"]
    assert [record.path for record in test_set.slides] == [tmp_path / "test/fat/fat-1.svs"]
    assert bystander.exists()


def test_each_slide_has_a_seed_of_its_own() -> None:
    slides = [slide for seed in (0, 1, 2) for slide in Cohort(seed=seed).slides()]
    assert len({slide.seed for slide in slides}) == len(slides) == 60


def test_a_slide_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PydmedError, match=r"could not be made .*FileNotFoundError"):
        make_slide(tmp_path / "missing" / "slide.svs", Size(256, 256), "fat", 0)


def test_own_slides_are_streamed_without_labels(tmp_path: Path, progress: Progress) -> None:
    write_coordinate_slide(tmp_path / "good.tif", Size(900, 700), levels=2)
    (tmp_path / "broken.svs").write_bytes(b"no slide at all")
    report = stream_own_slides(tmp_path, settings(tmp_path / "out"), progress)
    found = report.as_dict()
    assert found["slides_used"] == [str(tmp_path / "good.tif")]
    assert [skipped["path"] for skipped in found["slides_skipped"]] == [
        str(tmp_path / "broken.svs")
    ]
    assert "accuracy" not in found
    with Image.open(found["picture"]) as picture:
        assert picture.format == "PNG"


def test_every_crop_lies_in_a_chunk_of_the_picture(tmp_path: Path, progress: Progress) -> None:
    write_coordinate_slide(tmp_path / "a.tif", Size(2000, 1500), levels=1)
    write_coordinate_slide(tmp_path / "b.tif", Size(300, 1800), levels=1)
    trail = CropRecorder(8, seed=0)
    with settings(tmp_path).source(Dataset.from_folder(tmp_path), crops_per_chunk=8) as source:
        for batch in stream(source, 8, progress, ""):
            trail.add(batch)
    for view in view_slides(source, trail, most=12):
        boxes = np.array([(b.location.x, b.location.y, *_extent(b.size)) for b in view.chunks])
        left, top, width, height = boxes.T
        x, y = view.centres[:, :1], view.centres[:, 1:]
        inside = (left + 32 <= x) & (x <= left + width - 32)
        inside &= (top + 32 <= y) & (y <= top + height - 32)
        assert inside.any(axis=1).all()
        assert (left + width <= view.size.width).all()


def test_a_picture_shows_a_bounded_number_of_slides(tmp_path: Path, progress: Progress) -> None:
    for number in range(6):
        write_coordinate_slide(tmp_path / f"{number}.tif", Size(300, 300), levels=1)
    trail = CropRecorder(2, seed=0)
    with settings(tmp_path).source(Dataset.from_folder(tmp_path)) as source:
        for batch in stream(source, 2, progress, ""):
            trail.add(batch)
    names = [view.name for view in view_slides(source, trail, most=3)]
    assert len(set(names)) == 3


def test_a_trail_of_many_batches_stays_small() -> None:
    trail = CropRecorder(100_000, seed=0)
    info = torch.zeros(4, len(InfoColumn), dtype=torch.int64)
    for _ in range(5000):
        trail.add({"image": torch.zeros(4, 3, 8, 8), "info": info})
    assert len(trail.rows) < 200
    assert len(trail.shown) < 200


def test_glass_is_told_from_tissue() -> None:
    grey = torch.full((3, 64, 64), 243 / 255)
    pale_pink = grey * torch.tensor([1.0, 0.93, 0.97]).view(3, 1, 1)
    mostly_glass, mostly_tissue = grey.clone(), grey.clone()
    mostly_glass[:, :24] = pale_pink[:, :24]
    mostly_tissue[:, :40] = pale_pink[:, :40]
    crops = torch.stack([grey, pale_pink, mostly_glass, mostly_tissue])
    for brightness in (0.9, 1.0, 1.05):
        images = _normalised(crops * brightness)
        assert on_ground(images).tolist() == [True, False, True, False]


def test_unnormalised_undoes_the_pipeline() -> None:
    pixels = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(unnormalised(_normalised(pixels)), pixels)


def test_the_network_takes_crops_of_any_usual_size() -> None:
    network = TissueNet(4)
    for side in (32, 100, 224):
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 4)


def test_a_thumbnail_has_the_slide_s_shape(tmp_path: Path) -> None:
    path = write_coordinate_slide(tmp_path / "slide.tif", Size(1000, 400), levels=2)
    slide = OpenSlideSlide(path)
    shown, whole = thumbnail(slide, 100), thumbnail(slide, 5000)
    slide.close()
    assert shown is not None
    assert shown.shape == (40, 100, 3)
    assert whole is not None
    assert whole.shape == (400, 1000, 3)


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _extent(size: Size) -> tuple[int, int]:
    return size.width, size.height
