"""Annotations of a slide: files that cannot be read, the slide they belong to, classes, areas."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import shapely
from shapely import MultiPolygon, Polygon

from pydmed_dali import Annotation, Annotations, Size, read_annotations, require_classes
from pydmed_dali.errors import AnnotationError, OptionError


def boxes(**bounds: tuple[float, float, float, float]) -> Annotations:
    return Annotations(
        Path("slide.xml"),
        tuple(Annotation(name, (shapely.box(*box),)) for name, box in bounds.items()),
    )


@pytest.mark.parametrize("name", ["missing.xml", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnnotationError, match="there is no such file"):
        read_annotations(tmp_path / name)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    with pytest.raises(AnnotationError, match="there is no such file"):
        read_annotations(tmp_path / "pipe.xml")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slide.geojson"
    box = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}
    path.write_text(json.dumps({"type": "Feature", "geometry": box}))
    size = path.stat().st_size
    assert len(read_annotations(path, max_bytes=size)) == 1
    with pytest.raises(AnnotationError, match=f"has {size} bytes, more than max_bytes={size - 1}"):
        read_annotations(path, max_bytes=size - 1)


def test_a_file_of_holes_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        AnnotationError, match=r"has 1099511627776 bytes, more than max_bytes=26843"
    ):
        read_annotations(path)


def test_exclusions_are_a_collection(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not the text 'Exclusion'"):
        read_annotations(tmp_path / "x", exclusions="Exclusion")


def test_annotations_on_the_slide_pass(caplog: pytest.LogCaptureFixture) -> None:
    boxes(a=(0, 0, 100, 50), b=(10, 10, 20, 20)).check_against(Size(100, 50))
    assert not caplog.records


def test_annotations_beyond_the_edge_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    annotations = boxes(a=(0, 0, 9, 9), b=(-1, 0, 9, 9), c=(90, 40, 101, 50), d=(200, 0, 201, 9))
    annotations.check_against(Size(100, 50))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        "slide.xml: of 4 polygons (x -1..201, y 0..50) 1 lie outside the slide of 100x50 pixels, "
        "2 across its edge"
    )


def test_annotations_of_another_slide_are_refused() -> None:
    annotations = boxes(a=(100, 60, 200, 70), b=(101, 0, 110, 20))
    with pytest.raises(
        AnnotationError,
        match=r"slide.xml: all 2 polygons \(x 100..200, y 0..70\) lie outside the slide of 100x50",
    ):
        annotations.check_against(Size(100, 50))


def test_a_class_must_exist_somewhere() -> None:
    cohort = [boxes(Tumor=(0, 0, 1, 1), Stroma=(0, 0, 1, 1)), boxes(Tumor=(0, 0, 1, 1))]
    require_classes(cohort, ["Stroma", "Tumor"])
    with pytest.raises(
        AnnotationError,
        match=r"no region has the class 'tumour'; did you mean 'Tumor'\? the classes, with their "
        r"regions, are 'Tumor' \(2\), 'Stroma' \(1\)$",
    ):
        require_classes(cohort, ["Stroma", "tumour"])
    with pytest.raises(AnnotationError, match=r"the class 'x', 'y'; .* are none$"):
        require_classes([], ["x", "y"])
    with pytest.raises(OptionError, match="not 'Tumor'"):
        require_classes(cohort, "Tumor")


def test_where_regions_of_a_class_overlap_the_area_counts_once() -> None:
    regions = [Annotation("a", (shapely.box(x, 0, x + 10, 10),)) for x in (0, 5, 50)]
    assert Annotations(Path("x"), tuple(regions)).areas == {"a": 250.0}


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ((), r"0 of 0 are invalid or empty \(none is given\)"),
        ((Polygon(),), r"1 of 1 are invalid or empty"),
        ((Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]),), r"\(Self-intersection\[1 1\]\)"),
        ((MultiPolygon([shapely.box(0, 0, 1, 1)]),), r"1 of 1 are invalid"),
    ],
)
def test_a_region_needs_valid_polygons(polygons: tuple[Polygon, ...], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        Annotation("Tumor", polygons)


def test_annotations_without_a_region_are_refused() -> None:
    with pytest.raises(AnnotationError, match=r"x\.xml: no annotated region"):
        Annotations(Path("x.xml"), ())


def test_annotations_can_be_compared_and_pickled() -> None:
    annotations = boxes(a=(0, 0, 9, 9))
    assert annotations.areas == {"a": 81.0}, "also once its trees are made"
    copy = pickle.loads(pickle.dumps(annotations))
    assert copy == annotations and hash(copy) == hash(annotations)
    assert copy.areas == annotations.areas
