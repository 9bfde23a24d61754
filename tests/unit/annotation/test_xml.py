"""The XML of ASAP and of ImageScope, and XML that means harm."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pydmed_dali import Annotations, read_annotations
from pydmed_dali.errors import AnnotationError

SQUARE = ((0, 0), (10, 0), (10, 10), (0, 10))
HOLE = ((2, 2), (2, 4), (4, 4), (4, 2))


def asap(*annotations: str) -> str:
    return f"<ASAP_Annotations><Annotations>{''.join(annotations)}</Annotations></ASAP_Annotations>"


def asap_annotation(
    corners: tuple[tuple[object, object], ...] = SQUARE, group: str = "Tumor", kind: str = "Polygon"
) -> str:
    inner = "".join(
        f'<Coordinate Order="{order}" X="{x}" Y="{y}" />' for order, (x, y) in enumerate(corners)
    )
    return (
        f'<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#73d216">'
        f"<Coordinates>{inner}</Coordinates></Annotation>"
    )


def layer(*regions: str, name: str = "", description: str = "") -> str:
    return (
        f'<Annotation Id="1" Name="{name}" Type="4"><Attributes>'
        f'<Attribute Name="Description" Id="0" Value="{description}"/></Attributes>'
        f"<Regions><RegionAttributeHeaders/>{''.join(regions)}</Regions></Annotation>"
    )


def region(
    corners: tuple[tuple[object, object], ...] = SQUARE, kind: int = 0, negative: int = 0
) -> str:
    inner = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    return (
        f'<Region Id="1" Type="{kind}" Text="note" NegativeROA="{negative}">'
        f"<Attributes/><Vertices>{inner}</Vertices></Region>"
    )


def imagescope(*layers: str) -> str:
    return f'<Annotations MicronsPerPixel="0.499">{"".join(layers)}</Annotations>'


def read(folder: Path, text: str | bytes, **options: object) -> Annotations:
    path = folder / "slide.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_annotations(path, **options)  # type: ignore[arg-type]


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(AnnotationError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'slide.xml'}: ") and len(message) < 500
    return message


def test_a_real_asap_file_with_decimal_commas(real_slides: Path) -> None:
    annotations = read_annotations(real_slides / "packed-biopsies.asap.xml")
    (found,) = annotations.regions
    (polygon,) = found.polygons
    assert (found.class_name, found.name) == ("Unclassified", "Annotation 0")
    assert len(polygon.exterior.coords) == 43
    assert polygon.exterior.coords[0] == (543.020264, 335.044464)
    assert polygon.bounds == (315.190002, 320.153625, 543.020264, 625.416382)


def test_an_asap_group_is_a_class(tmp_path: Path) -> None:
    groups = ("Tumor", "Stroma", "None", "")
    annotations = read(tmp_path, asap(*(asap_annotation(group=group) for group in groups)))
    assert [found.class_name for found in annotations.regions] == [
        *("Tumor", "Stroma", "Unclassified", "Unclassified")
    ]


@pytest.mark.parametrize("kind", ["Polygon", "Rectangle", "Spline"])
def test_asap_shapes_with_an_area(tmp_path: Path, kind: str) -> None:
    assert read(tmp_path, asap(asap_annotation(kind=kind))).areas == {"Tumor": 100.0}


def test_asap_corners_come_in_their_order(tmp_path: Path) -> None:
    text = asap(asap_annotation())
    first, second = (
        '<Coordinate Order="1" X="10" Y="0" />',
        '<Coordinate Order="2" X="10" Y="10" />',
    )
    assert first + second in text
    shuffled = text.replace(first + second, second + first)
    assert read(tmp_path, shuffled).areas == {"Tumor": 100.0}
    unordered = text.replace("Order", "No")
    assert read(tmp_path, unordered).areas == {"Tumor": 100.0}


def test_asap_points_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dot = asap_annotation(SQUARE[:1], kind="Dot")
    click = asap_annotation(SQUARE[:2])
    assert len(read(tmp_path, asap(dot, click, asap_annotation()))) == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert "2 of 3 annotations" in message
    assert "(annotation 1: Dot, annotation 2: fewer than 3 corners)" in message


@pytest.mark.parametrize("group", ["Exclusion", "exclusion"])
def test_exclusions_are_cut_out_of_everything(tmp_path: Path, group: str) -> None:
    text = asap(
        asap_annotation(group="Tumor"),
        asap_annotation(HOLE, group=group),
        asap_annotation(((0, 0), (3, 0), (3, 10), (0, 10)), group="Stroma"),
    )
    annotations = read(tmp_path, text)
    assert annotations.areas == {"Tumor": 96.0, "Stroma": 28.0}
    assert read(tmp_path, text, exclusions=()).areas == {"Tumor": 100, "Stroma": 30, group: 4}


def test_a_region_that_is_wholly_cut_out_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = asap(asap_annotation(), asap_annotation(HOLE), asap_annotation(HOLE, group="_2"))
    annotations = read(tmp_path, text, exclusions=("_2",))
    assert annotations.areas == {"Tumor": 96.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "(annotation 2: wholly cut out)" in message


def test_an_exclusion_can_part_a_region(tmp_path: Path) -> None:
    middle = ((4, -1), (6, -1), (6, 11), (4, 11))
    (found,) = read(tmp_path, asap(asap_annotation(), asap_annotation(middle, "Exclusion"))).regions
    assert [polygon.area for polygon in found.polygons] == [40.0, 40.0]


@pytest.mark.parametrize(
    ("name", "description", "class_name"),
    [
        ("Tumor", "", "Tumor"),
        ("", "Stroma", "Stroma"),
        ("Tumor", "Stroma", "Tumor"),
        ("", " ", "note"),
    ],
)
def test_an_imagescope_layer_is_a_class(
    tmp_path: Path, name: str, description: str, class_name: str
) -> None:
    text = imagescope(layer(region(), name=name, description=description))
    (found,) = read(tmp_path, text).regions
    assert (found.class_name, found.name) == (class_name, "note")


def test_without_a_layers_name_the_text_of_a_region_is_its_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    regions = [region().replace("note", text) for text in ("Tumor", "Stroma", "")]
    annotations = read(tmp_path, imagescope(layer(*regions)))
    assert annotations.areas == {"Tumor": 100.0, "Stroma": 100.0, "Unclassified": 100.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "2 of 3 annotations are of a layer without a name, so their Text is their cl" in message


def halo(*regions: str) -> str:
    return (
        '<Annotations><Annotation Name="Tumor" Visible="True" LineColor="65535"><Regions>'
        f"{''.join(regions)}</Regions></Annotation></Annotations>"
    )


def halo_region(
    corners: tuple[tuple[object, object], ...] = SQUARE, kind: str = "Polygon", negative: str = "0"
) -> str:
    inner = "".join(f'<V X="{x}" Y="{y}" />' for x, y in corners)
    return (
        f'<Region Type="{kind}" HasEndcaps="0" NegativeROA="{negative}">'
        f"<Vertices>{inner}</Vertices><Comments /></Region>"
    )


def test_halo_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    polygon = read(tmp_path, halo(halo_region(), halo_region(HOLE, negative="1")))
    assert polygon.areas == {"Tumor": 96.0}
    box = ((0, 0), (20, 10))
    assert read(tmp_path, halo(halo_region(box, "Rectangle"))).areas == {"Tumor": 200.0}
    assert read(tmp_path, halo(halo_region(SQUARE, "Rectangle"))).areas == {"Tumor": 100.0}
    (ellipse,) = read(tmp_path, halo(halo_region(box, "Ellipse"))).regions
    assert ellipse.polygons[0].area == pytest.approx(math.pi * 10 * 5, rel=5e-4)
    assert not caplog.records
    assert len(read(tmp_path, halo(halo_region(), halo_region(box, "Ruler")))) == 1
    assert "layer 1, region 2: type Ruler" in caplog.text


def test_dialects_of_imagescope(tmp_path: Path) -> None:
    two = region(((5, 5), (15, 25)), kind=1)
    assert read(tmp_path, imagescope(layer(two, name="T"))).areas == {"T": 200.0}
    corners = region().replace("<Vertex ", "<V ")
    assert read(tmp_path, imagescope(layer(corners, name="T"))).areas == {"T": 100.0}
    for told, area in (("True", 96.0), ("1", 96.0), ("False", 100.0), ("", 100.0)):
        hole = region(HOLE, negative=1).replace('NegativeROA="1"', f'NegativeROA="{told}"')
        regions = read(tmp_path, imagescope(layer(region(), hole, name="T"))).areas
        assert regions == {"T": area}
    odd = region().replace('NegativeROA="0"', 'NegativeROA="2"')
    assert "its NegativeROA is '2'; expected 0 or 1" in refused(tmp_path, imagescope(layer(odd)))


def test_a_file_of_unknown_shapes_is_never_to_be_dropped(tmp_path: Path) -> None:
    message = refused(tmp_path, imagescope(layer(region(kind=7), region(kind=8), name="T")))
    assert "(layer 1, region 1: type 7, layer 1, region 2: type 8); regions are poly" in message
    assert "export what is drawn as these" in message and "leave" not in message
    cut = refused(tmp_path, asap(asap_annotation(group="Exclusion")))
    assert "1 of exclusions=('Exclusion', 'Ignore*')" in cut


def test_negative_regions_are_holes_of_their_layer_only(tmp_path: Path) -> None:
    tumor = layer(region(HOLE, negative=1), region(), name="Tumor")
    stroma = layer(region(), name="Stroma")
    assert read(tmp_path, imagescope(tumor, stroma)).areas == {"Tumor": 96.0, "Stroma": 100.0}


def test_imagescope_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An ellipse is given by its box; arrows and rulers have no area."""
    shapes = layer(
        region(SQUARE, kind=1),
        region(((20, 0), (40, 10)), kind=2),
        region(((0, 0), (1, 1)), kind=3),
        region(((0, 0), (9, 9)), kind=4),
        name="T",
    )
    rectangle, ellipse = read(tmp_path, imagescope(shapes)).regions
    assert rectangle.polygons[0].area == 100
    assert ellipse.polygons[0].area == pytest.approx(math.pi * 10 * 5, rel=5e-4)
    assert ellipse.polygons[0].bounds == pytest.approx((20, 0, 40, 10))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "(layer 1, region 3: type 3, layer 1, region 4: type 4)" in message


@pytest.mark.parametrize("text", ["nan", "inf", "1_0", "0x10", "1,234.5", "", "1e999", "٣"])
def test_coordinates_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    for document in (
        asap(asap_annotation(((text, 0), *SQUARE[1:]))),
        imagescope(layer(region(((0, text), *SQUARE[1:])))),
    ):
        message = refused(tmp_path, document)
        assert (
            f"the coordinate {text!r} is no number" in message or "inf lies on no slide" in message
        )
        assert "annotation 1" in message or "layer 1, region 1" in message


def test_a_corner_without_coordinates_is_refused(tmp_path: Path) -> None:
    text = imagescope(layer(region())).replace('Y="10" ', "")
    assert "layer 1, region 1: the coordinate None is no number" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (asap(), "it holds no region, only 0 annotations"),
        (imagescope(), "it holds no region"),
        (imagescope(layer()), "it holds no region"),
        (asap(asap_annotation(kind="Dot")), "it holds no region, only 1 annotations"),
        ("<Annotations>", "it is no XML: no element found"),
        ("<html><body/></html>", "its XML begins with <html>; expected <ASAP_Annotations>"),
        ("<" + "x" * 10**6 + "/>", "its XML begins with <xxx"),
        ('<?xml version="1.0" encoding="nonsense"?><Annotations/>', "it is no XML"),
        (b"<Annotations>\xff</Annotations>", "it is no XML"),
        ("<a>" * 100_000 + "</a>" * 100_000, "its XML begins with <a>"),
        ("<a>" * 100_000, "it is no XML"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in refused(tmp_path, text)


LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "ha">' for n in range(10)
)
BODY = "<ASAP_Annotations>{}</ASAP_Annotations>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        f"<!DOCTYPE x [{LAUGHS}]>" + BODY.format("&l9;"),
        f'<!DOCTYPE x [<!ENTITY a "{"a" * 100_000}">]>' + BODY.format("&a;" * 10_000),
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + BODY.format("&a;"),
        '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>' + BODY.format(""),
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">' + BODY.format(""),
        "<!DOCTYPE ASAP_Annotations>" + BODY.format(""),
    ],
    ids=["laughs", "quadratic", "file", "parameter", "external", "bare"],
)
def test_a_document_type_is_refused(tmp_path: Path, text: str, encoding: str) -> None:
    message = refused(tmp_path, text.encode(encoding))
    assert "declares a document type or entities" in message and "root:" not in message


def test_utf16_is_read(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?>' + asap(asap_annotation(group="Größe"))
    assert read(tmp_path, text.encode("utf-16")).classes == ("Größe",)
