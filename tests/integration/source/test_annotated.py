"""Crops drawn by the class of their annotation, and their masks, from the files to the batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import Point, Polygon

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, Size, SmallChunkIterator
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.errors import AnnotationError, OptionError, SourceError, StateError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pool.annotation_files import find_annotations
from tests.drawings import (
    CLASSES,
    DRAWINGS,
    OUTPUTS,
    SHARES,
    Drawing,
    annotate,
    assert_masks,
    expected_mask,
    join,
    masked,
    take_masked,
    write_geojson,
)
from tests.staged_host import staged_host_ring
from tests.support import NAMES, assert_coordinates, first, take

RUN: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 64,
    "batch_size": 16,
    "resident": 4,
    "crops_per_chunk": 8,
    "num_workers": 0,
    "seed": 3,
}


@pytest.fixture(scope="module")
def folder(coordinates: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotation files of all coordinate slides but the last."""
    folder = tmp_path_factory.mktemp("annotations")
    annotate(coordinates, folder)
    return folder


@pytest.fixture(scope="module")
def drawn(coordinates: Dataset, folder: Path) -> Mapping[Path, Drawing]:
    """What is on each slide."""
    return annotate(coordinates, folder)


@pytest.mark.parametrize("classes", [SHARES, CLASSES], ids=["drawn by class", "anywhere"])
@pytest.mark.parametrize(
    ("scale", "downsample", "num_workers"),
    [
        ({"level": 0}, 1.0, 2),
        ({"level": 1}, 2.0, 0),
        ({"mpp": 1.0}, 2.0, 0),
        ({"mpp": 0.83}, 1.66, 0),
        ({"mpp": 0.83}, 1.66, 2),
    ],
    ids=str,
)
def test_a_mask_is_what_was_drawn_where_info_says(
    coordinates: Dataset,
    coordinate_extents: dict[int, Size],
    folder: Path,
    drawn: Mapping[Path, Drawing],
    scale: dict[str, Any],
    downsample: float,
    classes: Any,
    num_workers: int,
) -> None:
    options = {**RUN, **scale, "num_workers": num_workers}
    with BigChunkSource(coordinates, **options, annotations=folder, classes=classes) as source:
        batches = take_masked(source, 8)
    for batch in batches:
        assert_masks(coordinates, drawn, batch, downsample)
        if downsample == round(downsample):
            assert_coordinates(batch, coordinate_extents)
    assert set(join(batches)["class_number"].tolist()) == {0, 1, 2}


SHAPES = [
    # chunk, crop, batch, resident, crops per chunk
    (Size(700, 300), Size(96, 33), 16, 3, 7),
    (4096, 224, 8, 2, 16),  # chunks larger than the slides
    (300, 64, 2, 6, 9),  # more slots than crops in a batch: taller images in the pool
    (256, 1, 64, 1, 100),  # crops of one pixel
]


@pytest.mark.parametrize("staged", [False, True], ids=["host", "staged"])
@pytest.mark.parametrize(("chunk", "crop", "batch", "resident", "per_chunk"), SHAPES)
def test_masks_are_right_in_any_ring(
    coordinates: Dataset,
    folder: Path,
    drawn: Mapping[Path, Drawing],
    monkeypatch: pytest.MonkeyPatch,
    staged: bool,
    chunk: int | Size,
    crop: int | Size,
    batch: int,
    resident: int,
    per_chunk: int,
) -> None:
    if staged:
        monkeypatch.setitem(RINGS, "host", staged_host_ring)
    with BigChunkSource(
        coordinates, chunk_size=chunk, crop_size=crop, batch_size=batch, resident=resident,
        crops_per_chunk=per_chunk, num_workers=1, annotations=folder, classes=SHARES,
    ) as source:  # fmt: skip
        for output in take_masked(source, 6):
            assert_masks(coordinates, drawn, output, 1.0)


@pytest.mark.parametrize("world_size", [1, 3])
def test_every_rank_gets_its_shares_and_every_patient_of_a_class_its_turn(
    coordinates: Dataset, folder: Path, world_size: int
) -> None:
    options = {**RUN, "crops_per_chunk": 2, "passes": 40 * world_size}
    patients: dict[int, Counter[int]] = {number: Counter() for number in range(3)}
    for rank in range(world_size):
        with BigChunkSource(
            coordinates, **options, annotations=folder, classes=SHARES, rank=rank,
            world_size=world_size,
        ) as source:  # fmt: skip
            for batch in SmallChunkIterator(basic(source), NAMES):
                for row in batch["info"].numpy():
                    patients[int(row[InfoColumn.CLASS])][int(row[InfoColumn.PATIENT])] += 1
            shares = source.stats().class_shares
        assert list(shares) == ["rest", "tumor", "stroma"]
        assert [share.requested for share in shares.values()] == [0.2, 0.5, 0.3]
        for share in shares.values():
            assert abs(share.realised - share.requested) <= 1 / 240
    assert sorted(patients[0]) == [0, 1, 2, 3, 4, 5]
    assert sorted(patients[1]) == sorted(patients[2]) == [0, 1, 2, 3, 4]
    for counts in patients.values():
        assert max(counts.values()) - min(counts.values()) <= 2 * world_size


@pytest.mark.parametrize("changed", [{"num_workers": 2}, {"prefetch_depth": 3}], ids=str)
def test_workers_and_prefetching_change_nothing(
    coordinates: Dataset, folder: Path, changed: dict[str, Any]
) -> None:
    runs = []
    for options in (RUN, {**RUN, **changed}):
        with BigChunkSource(coordinates, **options, annotations=folder, classes=SHARES) as source:
            runs.append(join(take_masked(source, 15)))
    for name in OUTPUTS:
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


def test_a_resumed_run_goes_on_and_another_one_is_refused(
    coordinates: Dataset, folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {**RUN, "annotations": folder, "classes": SHARES}
    with BigChunkSource(coordinates, **options) as source:
        loader = SmallChunkIterator(masked(source), OUTPUTS)
        batches = list(first(loader, 10))
        state = source.state_dict(after=batches[3]["info"])
    with BigChunkSource(coordinates, **options) as source:
        source.load_state_dict(state)
        got = join(take_masked(source, 6))
    for name in OUTPUTS:
        np.testing.assert_array_equal(got[name], join(batches[4:])[name])
    annotate(coordinates, tmp_path)
    write_geojson(tmp_path / "even" / "slide-0.geojson", DRAWINGS[1])
    for words, other in (
        (r"saved 'tumor 0\.5, stroma 0\.3; 5 files", {"classes": {"tumor": 0.5, "stroma": 0.2}}),
        (r"here 'tumor, stroma; 5 files", {"classes": CLASSES}),
        ("annotated: saved 'tumor 0.5", {"annotations": tmp_path}),
        ("here None", {"annotations": None, "classes": None}),
    ):
        with (
            BigChunkSource(coordinates, **{**options, **other}) as source,
            pytest.raises(StateError, match=words),
        ):
            source.load_state_dict(state)


EXCLUDED: Drawing = (
    ("_0", Polygon([(10.2, 10.3), (1500.4, 10.1), (1500.2, 1270.7), (10.1, 1270.2)])),
    ("_2", Polygon([(10.2, 10.3), (1200.4, 10.1), (1200.2, 1270.7), (10.1, 1270.2)])),
)


def test_exclusions_are_cut_out_in_sources(coordinates: Dataset, tmp_path: Path) -> None:
    """Crops of a class lie in what is left of it, and their masks too, from the files anew and from
    what was kept of them."""
    for record in coordinates.slides:
        write_geojson((tmp_path / record.relative).with_suffix(".geojson"), EXCLUDED)
    left = EXCLUDED[0][1] - EXCLUDED[1][1]
    assert isinstance(left, Polygon)
    options: dict[str, Any] = {**RUN, "annotations": tmp_path, "classes": {"_0": 1.0}}
    for _ in range(2):
        with BigChunkSource(coordinates, **options, exclusions=["_2"]) as source:
            batches = take_masked(source, 6)
        for batch in batches:
            rows = batch["info"].numpy()
            centres = zip(rows[:, InfoColumn.X] + 32.5, rows[:, InfoColumn.Y] + 32.5, strict=True)
            assert all(left.contains(Point(*centre)) for centre in centres)
            for mask, row in zip(batch["mask"].numpy(), rows, strict=True):
                expected = expected_mask([("_0", left)], row, 1.0, ("_0",))
                np.testing.assert_array_equal(mask[:, :, 0], expected)


def test_exclusions_belong_to_a_saved_state(coordinates: Dataset, folder: Path) -> None:
    options: dict[str, Any] = {**RUN, "annotations": folder, "classes": SHARES}
    with BigChunkSource(coordinates, **options) as source:
        state = source.state_dict()
    with BigChunkSource(coordinates, **options, exclusions=("ignore*", "EXCLUSION")) as source:
        source.load_state_dict(state)
    with (
        BigChunkSource(coordinates, **options, exclusions=["other"]) as source,
        pytest.raises(StateError, match=r"without exclusion, ignore\*'.*without other'"),
    ):
        source.load_state_dict(state)


def test_what_is_odd_about_exclusions_is_said(
    coordinates: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for record in coordinates.slides:
        write_geojson((tmp_path / record.relative).with_suffix(".geojson"), EXCLUDED)
    options: dict[str, Any] = {**RUN, "annotations": tmp_path, "classes": ("_0",)}
    with BigChunkSource(coordinates, **options, exclusions=["_2 ", "Exclusoin"]):
        pass
    assert "no annotation file has these exclusions: 'Exclusoin'" in caplog.text
    assert "CAMELYON16" not in caplog.text
    with BigChunkSource(coordinates, **options):
        pass
    assert "CAMELYON16, in which regions of '_2' are to be cut out" in caplog.text
    assert "outside all classes" not in caplog.text
    for share in (1.0, 0.75):
        caplog.clear()
        with BigChunkSource(
            coordinates, **{**options, "classes": {"_0": share}}, exclusions=["_2"]
        ):
            pass
        words = "0.25 of the crops are sampled outside all classes, which can be in the excluded"
        assert (words in caplog.text) == (share < 1)


def test_classes_that_qupath_ignores_are_numbered_only_where_they_are_named(
    coordinates: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for record in coordinates.slides:
        drawing = [*DRAWINGS[1], ("Region*", Polygon([(0.2, 0.1), (1500.3, 0.2), (9.1, 1200.2)]))]
        write_geojson((tmp_path / record.relative).with_suffix(".geojson"), drawing)
    with BigChunkSource(coordinates, **RUN, annotations=tmp_path) as source:
        assert source._engine.annotated is not None
        assert source._engine.annotated.classes == ("stroma", "tumor")
    assert "QuPath ignores classes whose names end with *: 'Region*' (6)" in caplog.text
    with BigChunkSource(coordinates, **RUN, annotations=tmp_path, classes=("Region*",)) as source:
        assert set(np.unique(join(take_masked(source, 2))["mask"])) == {0, 1}


def test_classes_in_other_spellings_are_warned_of_and_their_slides_named(
    coordinates: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("Tumor", "TUMOR", "x", "y", "z", "w")
    for record, name in zip(coordinates.slides, names, strict=True):
        drawing = [(name, polygon) for _, polygon in DRAWINGS[0]]
        write_geojson((tmp_path / record.relative).with_suffix(".geojson"), drawing)
    with BigChunkSource(coordinates, **RUN, annotations=tmp_path, classes=("Tumor",)):
        pass
    assert "so they count as nothing: 'TUMOR' (3), close to 'Tumor'" in caplog.text
    assert "5 of 6 slides with annotations have no region of the classes 'Tumor'" in caplog.text
    assert f"{coordinates.slides[1].path} has 'TUMOR', close to 'Tumor'" in caplog.text


def test_one_slide_takes_one_file(coordinates: Dataset, folder: Path) -> None:
    (patient, *_) = coordinates.patients
    one = Dataset((patient,), coordinates.classes)
    (record,) = one.slides
    file = (folder / record.relative).with_suffix(".geojson")
    runs = []
    for given in (folder, file, str(file)):
        with BigChunkSource(one, **RUN, annotations=given, classes=SHARES) as source:
            runs.append(join(take_masked(source, 4)))
    for name in OUTPUTS:
        np.testing.assert_array_equal(runs[0][name], runs[1][name])
        np.testing.assert_array_equal(runs[0][name], runs[2][name])
    with pytest.raises(
        OptionError, match=r"slide-0\.geojson' is one file for 6 slides; give a fol"
    ):
        BigChunkSource(coordinates, **RUN, annotations=file, classes=SHARES)
    with pytest.raises(OptionError, match=r"is no folder and no file; give .*the slide's file"):
        BigChunkSource(one, **RUN, annotations=folder / "none.xml", classes=SHARES)


def test_several_files_of_a_slide_and_several_slides_of_a_file_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tif", "a.svs", "a.xml", "a.geojson"):
        (tmp_path / name).touch()
    found = find_annotations(Dataset.from_folder(tmp_path), tmp_path)
    assert set(found.values()) == {tmp_path / "a.geojson"}
    assert f"{tmp_path}/a.geojson, not {tmp_path}/a.xml" in caplog.text
    assert f"{tmp_path}/a.geojson for {tmp_path}/a.svs, {tmp_path}/a.tif;" in caplog.text


def test_crops_are_described_with_their_class(coordinates: Dataset, folder: Path) -> None:
    with BigChunkSource(coordinates, **RUN, annotations=folder, classes=SHARES) as source:
        (batch,) = take_masked(source, 1)
        names = [crop.class_name for crop in source.describe(batch["info"])]
    assert names == [("rest", *CLASSES)[number] for number in batch["class_number"].tolist()]


def test_without_shares_crops_come_from_anywhere_and_classes_are_those_found(
    coordinates: Dataset, folder: Path, drawn: Mapping[Path, Drawing]
) -> None:
    """The same crops as without annotations; classes are numbered in the order of their names."""
    with BigChunkSource(coordinates, **RUN) as source:
        plain = join(take(source, 6))
    with BigChunkSource(coordinates, **RUN, annotations=lambda path: drawn_file(folder, path)) as s:
        got = join(take_masked(s, 6))
        assert s.stats().class_shares == {}
        assert {crop.class_name for crop in s.describe(got["info"])} == {None}
    for name in NAMES:
        np.testing.assert_array_equal(got[name], plain[name])
    assert set(np.unique(got["mask"])) == {0, 1, 2, 3}, "other, stroma, tumor"


def drawn_file(folder: Path, slide: Path) -> Path | None:
    file = folder / slide.parent.name / f"{slide.stem}.geojson"
    return file if file.is_file() else None


def test_a_source_without_annotations_has_no_masks_and_no_room_for_them(
    coordinates: Dataset,
) -> None:
    with BigChunkSource(coordinates, **RUN) as source:
        layout = source._engine.ring.layout
        assert source._engine.ring.masks is None
        assert layout.ring_bytes == layout.pixel_bytes and len(layout.planes) == 1
        with pytest.raises(SourceError, match="crops have no mask, because"):
            masked(source)
        assert (join(take(source, 1))["info"][:, InfoColumn.CLASS] == -1).all()


def test_slides_without_an_annotation_file_serve_only_the_rest(
    coordinates: Dataset, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = len(coordinates.slides) - 1
    with BigChunkSource(coordinates, **RUN, annotations=folder, classes=SHARES) as source:
        rows = join(take(source, 40))["info"]
    assert set(rows[rows[:, InfoColumn.SLIDE] == last, InfoColumn.CLASS].tolist()) == {0}
    assert "1 of 6 slides have no annotation file" in caplog.text
    everything = {"tumor": 0.5, "stroma": 0.5}
    with BigChunkSource(coordinates, **RUN, annotations=folder, classes=everything) as source:
        rows = join(take(source, 40))["info"]
        assert list(source.stats().class_shares) == ["tumor", "stroma"]
    assert last not in rows[:, InfoColumn.SLIDE] and set(rows[:, InfoColumn.CLASS].tolist()) == {
        1,
        2,
    }


def test_a_class_that_no_crop_can_have_its_centre_in_is_drawn_from_other_slides(
    coordinates: Dataset, tmp_path: Path
) -> None:
    annotate(coordinates, tmp_path)
    slide = coordinates.slides[0]
    corner = Polygon([(1.2, 1.3), (20.4, 1.7), (10.1, 20.9)])  # a crop's centre is 32 pixels in
    write_geojson((tmp_path / slide.relative).with_suffix(".geojson"), [("tumor", corner)])
    with BigChunkSource(coordinates, **RUN, annotations=tmp_path, classes=SHARES) as source:
        rows = join(take(source, 40))["info"]
        report, shares = source.report(), source.stats().class_shares
    own = rows[rows[:, InfoColumn.SLIDE] == 0]
    assert set(own[:, InfoColumn.CLASS].tolist()) == {0}, "the slide still serves the rest"
    reason = report.regions_failed[slide.path]
    assert "no crop of 64x64 has its centre in the class 'tumor'" in reason
    assert report.chunks_substituted > 0 and abs(shares["tumor"].realised - 0.5) < 0.05


def test_annotations_of_another_slide_are_reported_and_the_slide_is_left_out(
    coordinates: Dataset, tmp_path: Path
) -> None:
    annotate(coordinates, tmp_path)
    slide = coordinates.slides[1]
    far = Polygon([(5000.1, 5000.2), (6000.3, 5000.4), (5500.1, 6000.2)])
    write_geojson((tmp_path / slide.relative).with_suffix(".geojson"), [("tumor", far)])
    with BigChunkSource(coordinates, **RUN, annotations=tmp_path, classes=SHARES) as source:
        rows = join(take(source, 30))["info"]
        ((path, reason),) = source.report().slides_skipped.items()
    assert path == slide.path and 1 not in rows[:, InfoColumn.SLIDE]
    assert "all 1 polygons" in reason and "lie outside the slide of 1536x1280 pixels" in reason


def test_a_file_that_changes_after_the_source_was_made_is_reported(
    coordinates: Dataset, tmp_path: Path
) -> None:
    annotate(coordinates, tmp_path)
    slide = coordinates.slides[1]
    with BigChunkSource(coordinates, **RUN, annotations=tmp_path, classes=SHARES) as source:
        write_geojson((tmp_path / slide.relative).with_suffix(".geojson"), DRAWINGS[0])
        take(source, 20)
        ((path, reason),) = source.report().slides_skipped.items()
    assert path == slide.path and "was changed since the source was made" in reason


def test_bad_options_are_refused(coordinates: Dataset, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    bad: list[tuple[str, dict[str, Any]]] = [
        ("give annotations too", {"annotations": None, "classes": SHARES}),
        ("exclusions are those of anno", {"annotations": None, "exclusions": ["_2"]}),
        ("not the text '_2'", {"exclusions": "_2"}),
        ("'tumor' is among classes and among", {"classes": SHARES, "exclusions": ["tumor"]}),
        ("max_annotation_bytes must be an int", {"max_annotation_bytes": 0}),
        ("shares of classes sum to 1.1", {"classes": {"tumor": 0.8, "stroma": 0.3}}),
        ("0.0001 to 1, not 'tumor': 0", {"classes": {"tumor": 0}}),
        ("0.0001 to 1, not 'tumor': nan", {"classes": {"tumor": float("nan")}}),
        ("0.0001 to 1, not 'tumor': True", {"classes": {"tumor": True}}),
        ("0.0001 to 1, not 'tumor': '1'", {"classes": {"tumor": "1"}}),
        ("1 to 255 different names", {"classes": {}}),
        ("1 to 255 different names", {"classes": ("tumor", "tumor")}),
        ("cannot be called 'rest'", {"classes": {"rest": 0.5}}),
        ("is no folder", {"annotations": tmp_path / "nowhere"}),
        ("6 of 6 slides have no annotation file", {"annotations": tmp_path / "none"}),
        ("there is no .*x.xml", {"annotations": lambda path: tmp_path / "x.xml"}),
        ("returned None for every slide", {"annotations": lambda path: None}),
        ("raised ZeroDivisionError", {"annotations": lambda path: 1 / 0}),
    ]
    for message, options in bad:
        with pytest.raises(OptionError, match=message):
            BigChunkSource(coordinates, **{**RUN, "annotations": folder, **options})


def test_bad_files_and_unknown_classes_are_refused_before_anything_is_read(
    coordinates: Dataset, folder: Path, tmp_path: Path
) -> None:
    for classes in ({"tumour": 0.5}, ("tumour",)):
        with pytest.raises(AnnotationError, match="no region has the class 'tumour'; did you"):
            BigChunkSource(coordinates, **RUN, annotations=folder, classes=classes)
    for content, words in (
        ("", "it is empty"),
        ('{"type": "FeatureCollection", "features": []}', "it holds no region"),
        ("{", "it is no JSON"),
    ):
        annotate(coordinates, tmp_path)
        file = tmp_path / "odd" / "slide-1.geojson"
        file.write_text(content)
        with pytest.raises(AnnotationError, match=f"1 of 5 annotation files.*\n.*{words}") as got:
            BigChunkSource(coordinates, **RUN, annotations=tmp_path, classes=SHARES)
        assert str(file) in str(got.value)
    with pytest.raises(AnnotationError, match="bytes, more than max_bytes=100;"):
        BigChunkSource(coordinates, **RUN, annotations=folder, max_annotation_bytes=100)
