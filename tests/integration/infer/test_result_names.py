"""Results of slides of one name, of very long names, and of other slides are never mixed."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali import Dataset, Record, Size
from pydmed_dali.errors import NoTilesError, OptionError, SlideReadError
from pydmed_dali.infer import InferenceResult, predict, read_features, segment
from pydmed_dali.infer.class_map import description_of
from pydmed_dali.infer.result_folder import ResultFolder
from pydmed_dali.infer.result_names import result_names
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.integration.infer.two_slides import OPTIONS, Breaks, listed, means

MOST = 200


def named(*paths: str, most: int = MOST, fold: bool = False) -> dict[str, str]:
    records = [Record(Path("/slides"), PurePosixPath(path)) for path in paths]
    names = result_names(records, most, fold)
    return {str(path.relative_to("/slides")): name for path, name in names.items()}


def test_names_that_are_unique_are_the_slides() -> None:
    assert named("a/x.svs", "b/y.ome.tif") == {"a/x.svs": "x", "b/y.ome.tif": "y.ome"}


def test_slides_of_one_name_are_told_apart_by_their_folders() -> None:
    assert named("a/1-1.dcm", "b/c/1-1.dcm", "z.svs") == {
        "a/1-1.dcm": "a--1-1",
        "b/c/1-1.dcm": "b--c--1-1",
        "z.svs": "z",
    }


def test_no_slide_gets_the_name_that_another_may_have_had() -> None:
    found = named("x.svs", "a/x.svs", "a/x.tif", "a--x.svs")
    assert (
        found
        == {
            "x.svs": "x.svs",
            "a/x.svs": "a--x.svs",
            "a/x.tif": "a--x.tif",
            "a--x.svs": "a--x",
        }
        or len(set(found.values())) == 4
    )
    assert found["x.svs"] != "x", "a file x.h5 may be of the other, from when it was alone"


def test_names_of_equal_look_are_told_apart() -> None:
    assert len(set(named("a/é.svs", "b/e\u0301.svs").values())) == 2
    assert named("a/X.svs", "b/x.svs") == {"a/X.svs": "X", "b/x.svs": "x"}
    assert named("a/X.svs", "b/x.svs", fold=True) == {"a/X.svs": "a--X", "b/x.svs": "b--x"}


PARTS = st.text("ab-.é", min_size=1, max_size=4).filter(lambda part: part not in {".", ".."})


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), unique=True), st.booleans())
def test_every_slide_has_a_name_of_its_own_in_any_order(paths: list[str], fold: bool) -> None:
    paths = list(dict.fromkeys(str(PurePosixPath(path)) for path in paths))
    found = named(*paths, most=40, fold=fold)
    assert sorted(found) == sorted(paths)
    assert len(set(found.values())) == len(paths)
    assert all(len(os.fsencode(name)) <= 40 for name in found.values())
    assert found == named(*reversed(paths), most=40, fold=fold)


def scores(tiles: torch.Tensor) -> torch.Tensor:
    """(N, 3, 64, 64)."""
    return tiles.permute(0, 3, 1, 2).float()


def write(folder: Path, *names: str) -> Dataset:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        made = folder / "made.tif"  # the writer's own files have longer names
        write_coordinate_slide(made, Size(100 + 50 * number, 80), levels=1, mpp=0.5)
        made.rename(folder / name)
    return Dataset.from_folder(folder)


@pytest.mark.parametrize("file_format", ["h5", "zarr"])
def test_slides_of_one_name_have_a_file_each_and_resume(tmp_path: Path, file_format: str) -> None:
    dataset, out = write(tmp_path / "slides", "a/1-1.tif", "b/1-1.tif"), tmp_path / "out"
    options = {**OPTIONS, "file_format": file_format}
    done = predict(dataset, means, out, **options)
    assert listed(out) == [f"a--1-1.{file_format}", f"b--1-1.{file_format}", "run.json"]
    assert [len(read_features(file).coords) for file in done.written] == [4, 6]
    assert [read_features(f).attributes["slide"] for f in done.written] == [
        "a/1-1.tif",
        "b/1-1.tif",
    ]
    again = predict(dataset, means, out, **options)
    assert again.kept == done.written and not again.written
    assert again.kept_slides == tuple(record.path for record in dataset.slides)


def test_a_name_of_any_length_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    name = "ü" * 120 + "-1234567.tif"  # 251 bytes
    dataset, out = write(tmp_path / "slides", name), tmp_path / "out"
    with pytest.raises(Exception, match="out of luck"):
        predict(dataset, Breaks(0), out, **OPTIONS)
    (file,) = predict(dataset, means, out, **OPTIONS).written
    assert file.name.startswith("ü" * 90) and len(os.fsencode(file.name)) <= 255
    assert read_features(file).attributes["slide"] == name
    assert predict(dataset, means, out, **OPTIONS).kept == (file,)


def test_a_name_that_could_be_written_before_is_as_it_was(tmp_path: Path) -> None:
    for length, suffix in ((213, ".h5"), (212, ".tif"), (211, ".zarr")):
        for stem in ("x" * length, "x" * (length + 1)):
            slides = [Record(tmp_path, PurePosixPath(f"{stem}.svs"))]
            folder = ResultFolder(tmp_path / "out" / suffix, suffix, {}, slides)
            file = folder.write(slides[0].path, lambda path: path.write_bytes(b"x"))
            assert (file.name == f"{stem}{suffix}") == (len(stem) == length)


def test_a_path_too_long_to_be_written_is_told_before_the_model_runs(tmp_path: Path) -> None:
    dataset = write(tmp_path / "slides", "a" * 90 + ".tif")
    out = tmp_path
    while len(str(out)) < 4000:
        out /= "x" * min(200, 4040 - len(str(out)) - 1)
    with pytest.raises(OptionError, match=r"a\.tif cannot be written .*File name too long"):
        predict(dataset, Breaks(0), out, **OPTIONS)


@pytest.mark.parametrize("kind", ["h5", "zarr", "tif"])
def test_results_of_another_slide_are_never_taken_for_a_slides_own(
    tmp_path: Path, kind: str
) -> None:
    one, two = (
        write(tmp_path / name, "1-1.tif", *more) for name, more in (("one", ()), ("two", ()))
    )
    write_coordinate_slide(two.slides[0].path, Size(150, 80), levels=1, mpp=0.5)
    out = tmp_path / "out"

    def run(dataset: Dataset, **more: Any) -> InferenceResult:
        if kind == "tif":
            return segment(dataset, scores, out, **{**OPTIONS, **more})
        return predict(dataset, means, out, **{**OPTIONS, "file_format": kind, **more})

    run(one)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(
        NoTilesError, match=rf"two/1-1\.tif: .*1-1\.{kind} holds the results of anot"
    ):
        run(two)
    with pytest.raises(SlideReadError, match="holds the results of another file"):
        run(two, on_error="raise")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    copy = tmp_path / "three"
    copy.mkdir()
    (copy / "1-1.tif").write_bytes(one.slides[0].path.read_bytes())
    assert len(run(Dataset.from_folder(copy)).kept) == 1, "a copy has the same results"
    if kind == "tif":
        assert description_of(out / "1-1.tif")["slide"] == "1-1.tif"


def test_results_that_do_not_say_of_which_slide_they_are_are_kept(tmp_path: Path) -> None:
    import h5py

    dataset, out = write(tmp_path / "slides", "a.tif"), tmp_path / "out"
    (file,) = predict(dataset, means, out, **OPTIONS).written
    with h5py.File(file, "a") as opened:
        del opened["coords"].attrs["slide"], opened["coords"].attrs["slide_content"]
    assert predict(dataset, means, out, **OPTIONS).kept == (file,)
    np.testing.assert_array_equal(read_features(file).coords[0], (0, 0))
