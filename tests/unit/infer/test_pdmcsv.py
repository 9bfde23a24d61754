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
