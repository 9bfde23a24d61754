"""Annotation files of any contents: they are read, or refused by our error that names the file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali import Annotations, Point, Size, rasterize, read_annotations
from pydmed_dali.errors import AnnotationError

numbers = st.one_of(st.integers(-(2**40), 2**40), st.floats(), st.integers(-20, 20))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=20)
corner = st.lists(st.integers(-5, 30), min_size=2, max_size=2)
polygons = st.lists(st.lists(corner, min_size=3, max_size=8), min_size=1, max_size=3)


def geometry(kind: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **members})


shapes = geometry("Polygon", coordinates=polygons) | geometry(
    "MultiPolygon", coordinates=st.lists(polygons, min_size=1, max_size=3)
)
geometries = shapes | geometry(
    "GeometryCollection", geometries=st.lists(shapes | geometry("Point"), max_size=3)
)
names = st.text(max_size=5) | st.none()
classes = st.fixed_dictionaries({}, optional={"name": names, "names": st.lists(names, max_size=2)})
properties = st.fixed_dictionaries({}, optional={"classification": classes, "label": names})
drawn = st.fixed_dictionaries(
    {"type": st.just("Feature"), "geometry": geometries, "properties": properties}
)
odd = st.fixed_dictionaries(
    {"type": st.just("Feature")},
    optional={
        "geometry": values | geometry("Polygon", coordinates=values),
        "properties": values | st.fixed_dictionaries({"classification": values}),
    },
)
documents = st.one_of(st.lists(drawn, max_size=4), st.lists(drawn | odd, max_size=4), values)

XML = {
    "asap": '<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="T">'
    '<Coordinates><Coordinate Order="0" X="1,5" Y="1"/><Coordinate Order="1" X="9" Y="2"/>'
    '<Coordinate Order="2" X="5" Y="8"/></Coordinates></Annotation></Annotations>'
    "</ASAP_Annotations>",
    "imagescope": '<Annotations><Annotation Name="T"><Regions><Region Type="0" NegativeROA="0">'
    '<Vertices><Vertex X="1" Y="1"/><Vertex X="9" Y="2"/><Vertex X="5" Y="8"/></Vertices>'
    "</Region></Regions></Annotation></Annotations>",
}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """One file that is written over and over."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "slide"


def read(path: Path, data: bytes) -> Annotations | None:
    path.write_bytes(data)
    try:
        return read_annotations(path)
    except AnnotationError as error:
        message = str(error)
    assert message.startswith(f"{path}: ") and len(message) < 1000
    return None


@given(document=documents)
def test_any_json_is_read_or_refused(path: Path, document: Any) -> None:
    annotations = read(path, json.dumps(document).encode())
    if annotations:
        assert all(area > 0 for area in annotations.areas.values())
        rasterize(annotations, annotations.classes, Point(-6, -6), Size(40, 40))


@pytest.mark.parametrize("program", XML)
@given(places=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=4))
def test_xml_with_bytes_changed_is_read_or_refused(
    path: Path, program: str, places: list[tuple[int, bytes]]
) -> None:
    data = XML[program].encode()
    if not places:
        assert read(path, data) is not None
    for place, inserted in places:
        data = data[:place] + inserted + data[place + 1 :]
    read(path, data)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(path: Path, data: bytes) -> None:
    assert read(path, data) is None
