"""Features as HDF5 and as Zarr: the same arrays, read back alike."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from pydmed_dali import Dataset, Size
from pydmed_dali.errors import OptionError, ResultError
from pydmed_dali.infer import feature_file, feature_grid, heatmap, predict, read_features
from pydmed_dali.infer.feature_file import FeatureFile, writer
from pydmed_dali.infer.result_folder import ResultFolder
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import folder_dataset

OPTIONS: dict[str, Any] = {"model_name": "means", "tile_size": 64, "num_workers": 0}


def means(tiles: torch.Tensor) -> torch.Tensor:
    return tiles.double().mean(dim=(1, 2))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "slides").mkdir()
    for name, size in {"a": Size(300, 200), "b": Size(40, 130)}.items():
        write_coordinate_slide(tmp_path / "slides" / f"{name}.tif", size, levels=1, mpp=0.5)
    return folder_dataset(tmp_path / "slides")


def test_both_formats_hold_the_same(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = predict(dataset, means, out, **OPTIONS)
    other = predict(dataset, means, out, file_format="zarr", **OPTIONS)
    assert [path.name for path in other.written] == ["a.zarr", "b.zarr"]
    for h5, group in zip(one.written, other.written, strict=True):
        wanted, found = read_features(h5), read_features(group)
        np.testing.assert_array_equal(found.features, wanted.features)
        np.testing.assert_array_equal(found.coords, wanted.coords)
        assert found.features.dtype == np.float32 and found.coords.dtype == np.int64
        assert set(found.attributes) == set(wanted.attributes)
        for name, value in wanted.attributes.items():
            np.testing.assert_array_equal(found.attributes[name], value)
        np.testing.assert_array_equal(feature_grid(group).values, feature_grid(h5).values)
    heatmap(dataset.slides[0].path, other.written[0], out / "a.png")
    order = read_features(one.written[0]).coords[:, ::-1].tolist()
    assert order == sorted(order), "row by row"
    again = predict(dataset, means, out, file_format="zarr", **OPTIONS)
    assert (again.written, again.kept) == ((), other.written)


def test_a_zarr_group_is_plain_zarr_in_pieces(tmp_path: Path) -> None:
    features = np.random.default_rng(0).random((10_000, 1024), np.float32)
    coords = np.stack([np.arange(10_000), np.zeros(10_000)], axis=1).astype(np.int64)
    writer("zarr")(FeatureFile(features, coords, {"patch_size": 64}), tmp_path / "a.zarr")
    group: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group["features"].chunks == (4096, 1024), "16 MiB each"
    np.testing.assert_array_equal(group["features"][5000:5010], features[5000:5010])
    assert dict(group["coords"].attrs) == {"patch_size": 64}


def test_a_group_that_cannot_be_completed_is_not_there(tmp_path: Path) -> None:
    """As on a full disk: no file can grow beyond 9,000 bytes."""
    results = ResultFolder(tmp_path / "out", ".zarr", {}, [])
    content = FeatureFile(
        np.random.default_rng(0).random((100, 100), np.float32), np.zeros((100, 2), np.int64), {}
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, limits[1]))
    try:
        with pytest.raises(ResultError, match=r"a\.zarr cannot be written"):
            results.write(Path("a.tif"), partial(writer("zarr"), content))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
    assert results.write(Path("a.tif"), partial(writer("zarr"), content)).is_dir()


def test_a_group_that_another_call_has_finished_stays(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out", ".zarr", {}, [])
    content = FeatureFile(np.ones((2, 3), np.float32), np.zeros((2, 2), np.int64), {})

    def while_another_writes(path: Path) -> None:
        writer("zarr")(content, path)
        writer("zarr")(content, results.file(Path("a.tif")))

    results.write(Path("a.tif"), while_another_writes)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.zarr", "run.json"]


def test_other_formats_and_a_missing_library_are_told(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="must be one of h5, zarr, not 'csv'"):
        predict(dataset, means, tmp_path / "out", file_format="csv", **OPTIONS)
    monkeypatch.setattr(feature_file, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"needs zarr: pip install -c constraints\.txt"):
        predict(dataset, means, tmp_path / "out", file_format="zarr", **OPTIONS)
    assert not (tmp_path / "out").exists()
