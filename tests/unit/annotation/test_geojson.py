"""GeoJSON: of QuPath's versions and of others, and all that can be wrong in it."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from pydmed_dali import Annotations, Size, read_annotations
from pydmed_dali.errors import AnnotationError

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]


def moved(ring: list[list[int]], by: int) -> list[list[int]]:
    return [[x + by, y] for x, y in ring]


def feature(geometry: Any = None, **properties: Any) -> dict[str, Any]:
    geometry = geometry or {"type": "Polygon", "coordinates": [SQUARE]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def read(folder: Path, document: Any) -> Annotations:
    text = document if isinstance(document, str) else json.dumps(document)
    path = folder / "slide.geojson"
    path.write_text(text, encoding="utf-8")
    return read_annotations(path)


def refused(folder: Path, document: Any) -> str:
    with pytest.raises(AnnotationError) as caught:
        read(folder, document)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'slide.geojson'}: ")
    return message


def test_a_real_file(real_slides: Path, caplog: pytest.LogCaptureFixture) -> None:
    annotations = read_annotations(real_slides / "CMU-1-Small-Region.geojson")
    assert annotations.areas == {"Other": 821.0**2, "Tumor": 821.0**2}
    assert [region.polygons[0].bounds for region in annotations.regions] == [
        (512, 512, 1333, 1333),
        (1512, 1512, 2333, 2333),
    ]
    assert not caplog.records
    annotations.check_against(Size(2220, 2967))
    (record,) = caplog.records
    assert "of 2 polygons" in record.getMessage() and "1 across its edge" in record.getMessage()


def test_a_collection_and_a_bare_list(tmp_path: Path) -> None:
    features = [feature(label="a"), feature(label="b")]
    for document in (features, {"type": "FeatureCollection", "features": features}):
        annotations = read(tmp_path, document)
        assert [region.class_name for region in annotations.regions] == ["a", "b"]


def test_one_feature(tmp_path: Path) -> None:
    annotations = read(tmp_path, feature(name="my region", classification={"name": "Tumor"}))
    (region,) = annotations.regions
    assert (region.class_name, region.name) == ("Tumor", "my region")


def test_a_byte_order_mark_and_utf16(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        path = tmp_path / encoding
        path.write_text(json.dumps(feature(label="é"), ensure_ascii=False), encoding=encoding)
        assert read_annotations(path).classes == ("é",)


@pytest.mark.parametrize(
    ("properties", "class_name"),
    [
        ({"classification": {"name": "Tumor", "colorRGB": -3670016}}, "Tumor"),
        (
            {"classification": {"names": ["Tumor", "Positive"], "color": [0, 0, 9]}},
            "Tumor: Positive",
        ),
        ({"classification": "Stroma"}, "Stroma"),
        ({"classification": {"name": " Tumor "}, "label": "x"}, "Tumor"),
        ({"classification": None, "label_name": "Other", "label": 3}, "Other"),
        ({"label": 3}, "3"),
        ({"classification": {}, "label": ""}, "Unclassified"),
        ({"classification": ["Tumor", "CD3"]}, "Tumor: CD3"),
        ({"classification": ["Tumor", None, 3]}, "Tumor: 3"),
        ({"classification": []}, "Unclassified"),
        ({"classification": {"name": 3}}, "3"),
        ({"classification": {"name": 1.5}}, "1.5"),
        ({"classification": {"names": []}, "label": "x"}, "x"),
        ({"label": {"name": "Tumor"}}, "Tumor"),
        ({}, "Unclassified"),
    ],
)
def test_where_the_class_stands(
    tmp_path: Path, properties: dict[str, Any], class_name: str
) -> None:
    assert read(tmp_path, feature(**properties)).classes == (class_name,)


NAN = json.loads("NaN")


@pytest.mark.parametrize(
    "odd",
    [
        {"measurements": {"Ratio": NAN, "Area": 12.5, "Odd": [NAN, {"type": "Polygon"}]}},
        {"name": 1.5},
        {"name": [1]},
        {"name": {"type": "Polygon", "coordinates": [[["x"]], 7]}},
        {"type": "MultiPolygon", "coordinates": 3},
        {"metadata": {"type": "MultiPolygon", "coordinates": [[[[NAN, None]]], 5]}},
    ],
)
def test_what_is_neither_geometry_nor_class_may_be_anything(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    drawn = feature(label="Tumor")
    drawn["properties"] |= odd
    nucleus = {"nucleusGeometry": {"type": "Polygon", "coordinates": "?"}, "id": NAN}
    assert read(tmp_path, [{**drawn, **nucleus}, feature(label="x")]).areas == {
        "Tumor": 100.0,
        "x": 100.0,
    }


def test_a_name_that_is_a_number_is_a_text(tmp_path: Path) -> None:
    (region,) = read(tmp_path, feature(name=1.5)).regions
    assert region.name == "1.5"


def test_what_is_no_utf_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "slide.geojson"
    path.write_bytes(json.dumps(feature(label="Müller"), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"no JSON: 'utf-8' codec .*; save it in UTF-8"):
        read_annotations(path)


def scribble(corners: int) -> dict[str, Any]:
    numbers = np.random.default_rng(1).uniform(0, 1000, (corners, 2))
    return {"type": "Polygon", "coordinates": [numbers.tolist()]}


def test_a_scribble_is_refused_before_it_takes_minutes(tmp_path: Path) -> None:
    begun = time.monotonic()
    message = refused(tmp_path, [feature(label="x"), feature(scribble(3000))])
    assert "feature 2: it crosses itself too often" in message and "100,000 times" in message
    assert time.monotonic() - begun < 30, "a repair takes more than 60 s"


def test_crossings_of_a_file_count_together(tmp_path: Path) -> None:
    """Of 120 corners 1,600 crossings or so: one is repaired, a hundred would take long."""
    assert len(read(tmp_path, [feature(scribble(120))])) == 1
    message = refused(tmp_path, [feature(scribble(120))] * 100)
    assert "crosses itself too often" in message and "the outlines before it" in message


def test_properties_can_be_null(tmp_path: Path) -> None:
    assert read(tmp_path, {**feature(), "properties": None}).classes == ("Unclassified",)


def test_holes_and_several_polygons(tmp_path: Path) -> None:
    multi = {
        "type": "MultiPolygon",
        "coordinates": [[SQUARE, HOLE], [moved(SQUARE, 20)]],
    }
    collection = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Point", "coordinates": [1, 1]},
            {"type": "Polygon", "coordinates": [moved(SQUARE, 40), moved(HOLE, 40)]},
        ],
    }
    annotations = read(tmp_path, [feature(multi, label="a"), feature(collection, label="b")])
    assert annotations.areas == {"a": 196.0, "b": 96.0}
    assert [len(region.polygons) for region in annotations.regions] == [2, 1]


def test_a_third_coordinate_and_an_open_ring_are_fine(tmp_path: Path) -> None:
    ring = [[x, y, 7] for x, y in SQUARE[:-1]]
    annotations = read(tmp_path, feature({"type": "Polygon", "coordinates": [ring]}))
    assert annotations.areas == {"Unclassified": 100.0}


def test_what_qupath_ignores_is_cut_out_and_its_regions_are_not(tmp_path: Path) -> None:
    """`Region*` holds the regions of other classes: cutting it out would leave nothing."""
    hole = {"type": "Polygon", "coordinates": [HOLE]}
    features = [
        feature(classification={"name": "Tumor"}),
        feature(hole, classification={"name": "Ignore*"}),
        feature(classification={"name": "Region*"}),
    ]
    assert read(tmp_path, features).areas == {"Tumor": 96.0, "Region*": 96.0}
    path = tmp_path / "slide.geojson"
    assert read_annotations(path, exclusions=()).areas == {
        "Tumor": 100.0,
        "Ignore*": 4.0,
        "Region*": 100.0,
    }


def test_what_has_no_area_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = {"type": "LineString", "coordinates": SQUARE}
    two = {"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [0, 0]]]}
    flat = {"type": "Polygon", "coordinates": [[[0, 0], [5, 0], [9, 0]]]}
    empty = {"type": "Polygon", "coordinates": []}
    nothing = {**feature(), "geometry": None}
    features = [feature(line), feature(two), feature(flat), feature(empty), nothing, feature()]
    annotations = read(tmp_path, features)
    assert len(annotations) == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        f"{tmp_path}/slide.geojson: 5 of 6 annotations have no area and are left out (feature 1: "
        "LineString, feature 2: fewer than 3 corners, feature 3: corners on a line, feature 4: "
        "fewer than 3 corners, feature 5: no geometry)"
    )


def test_a_flat_hole_is_no_hole(tmp_path: Path) -> None:
    annotations = read(tmp_path, feature({"type": "Polygon", "coordinates": [SQUARE, [[1, 1]]]}))
    assert annotations.areas == {"Unclassified": 100.0}


def test_many_cells_and_an_exclusion_are_what_shapely_says(tmp_path: Path) -> None:
    """Cells inside of it, across its edge, touching it and beside it; in one region and in many."""
    rng = np.random.default_rng(2)
    turns = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.column_stack([np.cos(turns), np.sin(turns)])
    cells = [(centre + 9 * circle).round(2).tolist() for centre in rng.uniform(0, 400, (300, 2))]
    cells += [[[300, 100], [320, 100], [320, 120]], [[290, 100], [300, 100], [300, 110]]]
    cut = [[[100, 100], [300, 100], [300, 300], [100, 300]], [[150, 150], [250, 150], [200, 250]]]
    several = {"type": "MultiPolygon", "coordinates": [[cell] for cell in cells[:50]]}
    features = [feature({"type": "Polygon", "coordinates": [cell]}, label="t") for cell in cells]
    features += [
        feature(several, label="m"),
        feature({"type": "Polygon", "coordinates": cut}, label="Exclusion"),
        feature({"type": "Polygon", "coordinates": [[[0, 0], [50, 0], [0, 50]]]}, label="ignore*"),
    ]
    annotations = read(tmp_path, features)
    gone = shapely.union_all(
        [shapely.Polygon(cut[0], cut[1:]), shapely.Polygon([(0, 0), (50, 0), (0, 50)])]
    )
    expected = [shapely.Polygon(cell).difference(gone) for cell in cells]
    assert len(annotations) == sum(not shape.is_empty for shape in expected) + 1
    found = [shapely.MultiPolygon(region.polygons) for region in annotations.regions[:-1]]
    left = [shape for shape in expected if not shape.is_empty]
    assert all(a.equals(b) for a, b in zip(found, left, strict=True))
    assert annotations.areas == pytest.approx(
        {"t": shapely.union_all(left).area, "m": shapely.union_all(expected[:50]).area}, rel=1e-12
    )


def test_polygons_that_cross_themselves_are_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bow tie has two triangles; a loop that is drawn over itself is no hole."""
    tie = [[0, 0], [2, 2], [2, 0], [0, 2]]
    loop = [[0, 0], [10, 0], [10, 10], [4, 10], [4, 4], [6, 4], [6, 12], [0, 12]]
    shapes = {"tie": tie, "square": SQUARE, "loop": loop}
    with caplog.at_level(logging.WARNING):
        annotations = read(
            tmp_path,
            [feature({"type": "Polygon", "coordinates": [s]}, label=n) for n, s in shapes.items()],
        )
    assert annotations.areas == {"tie": 2.0, "square": 100.0, "loop": 112.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{tmp_path}/slide.geojson: 2 of 3 annotations cross themselves")
    assert "feature 1 'tie': Self-intersection[1 1], feature 3 'loop': " in message


@pytest.mark.parametrize(
    ("corner", "message"),
    [
        (["0", 0], "feature 1: the coordinate '0' is no number"),
        ([None, 0], "the coordinate None is no number"),
        ([True, 0], "the coordinate True is no number"),
        ([0], "the coordinate None is no number"),
        (0, "feature 1: 0 stands where a list of coordinates should"),
        ({"x": 0}, "stands where a list"),
        ([3e9, 0], "the coordinate 3000000000.0 lies on no slide"),
        ([10**300, 0], "0 lies on no slide"),
    ],
)
def test_coordinates_that_are_none_are_refused(tmp_path: Path, corner: Any, message: str) -> None:
    geometry = {"type": "Polygon", "coordinates": [[corner, *SQUARE[1:-1]]]}
    assert message in refused(tmp_path, [feature(geometry)])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: str) -> None:
    text = json.dumps(feature()).replace("10", number)
    assert "it holds the number" in (message := refused(tmp_path, text)) or "inf lies" in message


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "it is empty"),
        (" \n ", "it is empty"),
        ("[]", "it holds no region, only 0 annotations"),
        ({"type": "FeatureCollection", "features": []}, "it holds no region"),
        ("[1, 2", "it is no JSON: "),
        ("\x01", "it is no JSON: "),
        ("1" * 5000, "it is no JSON: "),
        ("7", "its outermost value is 7; expected a FeatureCollection"),
        ({"type": "Topology"}, "its outermost value is {'type': 'Topology'}"),
        ({"type": "FeatureCollection"}, "its outermost value is"),
        ([7], "feature 1 is 7; expected a Feature"),
        ([feature(), {"type": "Polygon"}], "feature 2 is {'type': 'Polygon'}"),
        ([{**feature(), "properties": [1]}], "properties and geometry must be objects"),
        ([{**feature(), "geometry": "x"}], "properties and geometry must be objects"),
        ([feature(classification={"name": {"x": 1}})], "feature 1: its class is {'x': 1}"),
        ([feature(classification=["Tumor", ["x"]])], "its class is ['Tumor', ['x']]; expected a"),
        ([feature(label={"name": {"x": 1}})], "feature 1: its class is {'x': 1}"),
        ([feature({"type": "MultiPolygon", "coordinates": 3})], "3 stands where a list"),
        ([feature({"type": "GeometryCollection", "geometries": [1]})], "1 is no geometry"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    assert message in refused(tmp_path, document)


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 200_000,
        '{"type":' * 200_000,
        "[" * 200_000 + "]" * 200_000,
        '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": %s}}]'
        % ("[" * 900 + "]" * 900),
        '[{"type": "Feature", "properties": {"label": %s}}]' % ("[" * 900 + "]" * 900),
        '[{"type": "Feature", "geometry": %s}]'
        % ('{"type": "GeometryCollection", "geometries": [' * 400 + "]}" * 400),
    ],
)
def test_a_file_that_is_nested_deeply_is_refused(tmp_path: Path, bomb: str) -> None:
    assert len(refused(tmp_path, bomb)) < 500


def test_a_message_stays_short(tmp_path: Path) -> None:
    assert len(refused(tmp_path, [{"type": "x" * 10**6}])) < 500
