"""Class masks and classes of points, where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import ArrayLike
from shapely import Polygon

from pydmed_dali import (
    Annotation,
    Annotations,
    Point,
    Size,
    classes_at,
    rasterize,
    read_annotations,
)
from pydmed_dali.errors import OptionError

SHAPE = """
..........
.aaaaaaa..
.a..bbba..
.a..bbba..
.aaaabbb..
.aaaaaaa..
..........
"""


def annotations_of(**polygons: Polygon) -> Annotations:
    return Annotations(
        Path("slide.xml"), tuple(Annotation(name, (p,)) for name, p in polygons.items())
    )


@pytest.fixture
def drawn() -> Annotations:
    """A frame with a hole, and a block that covers some of both."""
    frame = Polygon([(1, 1), (8, 1), (8, 6), (1, 6)], [[(2, 2), (7, 2), (7, 4), (2, 4)]])
    block = Polygon([(4, 2), (7, 2), (7, 4), (8, 4), (8, 5), (5, 5), (5, 4), (4, 4)])
    return annotations_of(a=frame, b=block)


def picture(mask: ArrayLike, letters: str = ".ab") -> list[str]:
    return ["".join(letters[number] for number in row) for row in np.asarray(mask)]


def test_a_mask_is_what_was_drawn(drawn: Annotations) -> None:
    mask = rasterize(drawn, ["a", "b"], Point(0, 0), Size(10, 7))
    assert mask.dtype == np.uint8
    assert picture(mask) == SHAPE.split()


def test_a_region_of_a_mask_is_that_part_of_it(drawn: Annotations) -> None:
    whole = rasterize(drawn, ["a", "b"], Point(-3, -3), Size(20, 20))
    for x, y, width, height in ((0, 0, 20, 20), (5, 4, 6, 3), (4, 5, 1, 1), (0, 0, 3, 3)):
        part = rasterize(drawn, ["a", "b"], Point(x - 3, y - 3), Size(width, height))
        assert (part == whole[y : y + height, x : x + width]).all()


def test_the_later_class_wins(drawn: Annotations) -> None:
    mask = rasterize(drawn, ["b", "a"], Point(0, 0), Size(10, 7))
    assert (mask == 2).sum() == 25 and (mask == 1).sum() == 6
    assert (rasterize(drawn, ["b"], Point(0, 0), Size(10, 7)) == 1).sum() == 9
    other = rasterize(drawn, ["c", "b"], Point(0, 0), Size(10, 7))
    assert set(np.unique(other)) == {0, 2}, "a slide may lack a class"


def test_a_coarser_mask_looks_at_the_centres_of_its_pixels() -> None:
    """At every second row and column, an outline at odd coordinates runs through centres."""
    square = annotations_of(a=shapely.box(1, 1, 5, 5))
    assert picture(rasterize(square, ["a"], Point(0, 0), Size(4, 4), 2)) == [
        "aa..",
        "aa..",
        "....",
        "....",
    ]
    assert rasterize(square, ["a"], Point(0, 0), Size(4, 8), (2.0, 1.0)).sum() == 8


def test_regions_that_share_an_edge_leave_no_gap_and_share_no_pixel() -> None:
    left, right = Polygon([(0, 0), (9, 0), (3, 9), (0, 9)]), Polygon([(9, 0), (9, 9), (3, 9)])
    for step in (1, 2, 3, 0.5):
        size = Size(int(9 / step), int(9 / step))
        masks = [
            rasterize(annotations_of(a=polygon), ["a"], Point(0, 0), size, step)
            for polygon in (left, right)
        ]
        assert (masks[0] + masks[1] == 1).all()


def test_overlapping_regions_of_a_class_are_one() -> None:
    regions = tuple(Annotation("a", (shapely.box(x, 0, x + 4, 4),)) for x in (0, 2))
    mask = rasterize(Annotations(Path("x"), regions), ["a"], Point(0, 0), Size(8, 4))
    assert mask.tolist() == 4 * [[1, 1, 1, 1, 1, 1, 0, 0]]


def test_a_real_annotation_covers_its_area(real_slides: Path) -> None:
    annotations = read_annotations(real_slides / "packed-biopsies.asap.xml")
    mask = rasterize(annotations, annotations.classes, Point(0, 0), Size(5888, 2760), 0.25)
    assert mask.sum() / 16 == pytest.approx(annotations.areas["Unclassified"], rel=1e-4)


def test_classes_of_points(drawn: Annotations) -> None:
    points = [(1.5, 1.5), (3, 3), (6, 4.5), (0, 0), (4, 2), (1, 1), (np.nan, 0)]
    assert classes_at(drawn, ["a", "b"], np.array(points)).tolist() == [1, 0, 2, 0, 2, 1, 0]
    assert classes_at(drawn, ["b"], np.zeros((0, 2))).tolist() == []


def test_points_and_masks_agree(drawn: Annotations) -> None:
    mask = rasterize(drawn, ["a", "b"], Point(0, 0), Size(10, 7))
    y, x = np.indices(mask.shape)
    points = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    assert (classes_at(drawn, ["a", "b"], points) == mask.ravel()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "a"}, "classes must be 1 to 255 different names in a sequence, not 'a'"),
        ({"classes": []}, "classes must be"),
        ({"classes": ["a", "a"]}, "classes must be"),
        ({"classes": [str(n) for n in range(256)]}, "classes must be"),
        ({"size": Size(0, 1)}, "size must be at least 1 pixel"),
        ({"downsample": 0}, "downsample must be above 0, not 0"),
        ({"downsample": (1.0, -1.0)}, "downsample must be above 0"),
        ({"downsample": float("nan")}, "downsample must be above 0, not nan"),
        ({"downsample": float("inf")}, "downsample must be above 0, not inf"),
    ],
)
def test_bad_options_are_refused(drawn: Annotations, options: dict[str, Any], message: str) -> None:
    given = {"classes": ["a"], "location": Point(0, 0), "size": Size(1, 1), **options}
    with pytest.raises(OptionError, match=message):
        rasterize(drawn, **given)
