"""PyDmed's files are read; lines are made here as its Tensor3DtoPdmcsvrow makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pydmed_dali import Size
from pydmed_dali.errors import DatasetError
from pydmed_dali.infer import read_pdmcsv


def line(y: int, x: int, values: object, shape: tuple[int, int, int] = (2, 1, 2)) -> str:
    head = [y, x, 5000, 4000, 1, 224, 4.0001, *shape]
    return str(head)[1:-1] + "," + str(values)[1:-1] + "\n"


def test_places_and_values_are_those_of_the_lines(tmp_path: Path) -> None:
    lines = [line(0, 224, [1.5, -2.0, 3.0, 4.0]), line(224, 448, [5.0, None, 7e-5, 8.0])]
    (tmp_path / "a.csv").write_text("".join(lines))
    found = read_pdmcsv(tmp_path / "a.csv")
    np.testing.assert_array_equal(found.places, [[224, 0], [448, 224]])
    assert found.values.shape == (2, 2, 1, 2)
    np.testing.assert_allclose(found.values[0].ravel(), [1.5, -2, 3, 4])
    np.testing.assert_allclose(found.values[1].ravel(), [5, np.nan, 7e-5, 8], rtol=1e-6)
    assert (found.extent, found.level, found.kernel_size) == (Size(4000, 5000), 1, 224)
    assert found.downsample == 4.0001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no line"),
        (line(0, 0, [1.0, 2.0, 3.0]), "line 1 has 3 values, and says it has 4"),
        ("1, 2, 3\n", "line 1 does not begin with 10 numbers"),
        (line(0, 0, [1.0] * 4) + line(0, 0, [1.0], (1, 1, 1)), "line 2 is of another slide"),
    ],
)
def test_what_is_cut_or_mixed_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        read_pdmcsv(tmp_path / "a.csv")


def row(*head: object, values: int = 1) -> str:
    return ",".join(map(str, [*head, *([0.5] * values)]))


GOOD: list[object] = [0, 0, 10, 20, 0, 4, 1.5, 1, 1, 1]


@pytest.mark.parametrize("place", [0, 2, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("nonsense", ["1e300", "-3", "0.5", "nan", "inf", "x", ""])
def test_nonsense_is_an_error_of_ours(tmp_path: Path, place: int, nonsense: str) -> None:
    file = tmp_path / "a.pdmcsv"
    file.write_text(row(*GOOD))
    assert read_pdmcsv(file).values.shape == (1, 1, 1, 1)
    file.write_text(row(*GOOD[:place], nonsense, *GOOD[place + 1 :]))
    if (place, nonsense) in {(0, "-3"), (6, "0.5"), (6, "1e300")}:
        read_pdmcsv(file)  # a place may lie before the edge, and a downsample is any number
        return
    with pytest.raises(DatasetError, match=r"a\.pdmcsv: line 1 "):
        read_pdmcsv(file)


def test_what_is_no_text_or_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DatasetError, match="is no text"):
        read_pdmcsv(tmp_path / "a")
    for path in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        with pytest.raises(DatasetError, match="cannot be read: "):
            read_pdmcsv(path)


def test_numbers_beyond_float32_are_infinite(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(row(*GOOD, "1e300", values=0))
    assert np.isposinf(read_pdmcsv(tmp_path / "a").values).all()
