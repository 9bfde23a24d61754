"""Masks of one's own on the command line: every command that takes them takes them alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pydmed_dali import BigChunkSource, Dataset, TileSource, measure_tissue
from pydmed_dali.cli.app import app
from pydmed_dali.errors import DatasetError, OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.infer import read_features
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    write_coordinate_slide(tmp_path / "slides/slide.tif", Size(1024, 512), levels=2, mpp=0.5)
    return tmp_path / "slides"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Labels 0 to 3, a quarter of the slide each, from left to right."""
    labels = np.arange(4, dtype=np.uint8).repeat(16)[None].repeat(32, axis=0)
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels).save(tmp_path / "masks/slide.png")
    return tmp_path / "masks"


def test_infer_sees_the_tiles_of_the_values_that_are_named(
    slides: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mean_of_tiles.py").write_text("def mean(tiles): return tiles.float().mean((1, 2))")
    options = ["--model", "mean_of_tiles:mean", "--out", str(tmp_path / "out")]
    options += ["--tile-size", "256", "--min-tissue", "1", "--masks", str(masks)]
    options += ["--num-workers", "0", "--json"]
    vague = CliRunner().invoke(app, ["infer", str(slides), *options])
    assert vague.exit_code and "several values beside 0" in str(vague.exception)
    result = CliRunner().invoke(app, ["infer", str(slides), *options, "--tissue-values", "1,3"])
    assert result.exit_code == 0, result.exception
    (file,) = json.loads(result.stdout)["written"]
    assert sorted(set(read_features(file).coords[:, 0].tolist())) == [256, 768]
    other = CliRunner().invoke(app, ["infer", str(slides), *options, "--tissue-values", "2"])
    assert isinstance(other.exception, OptionError)
    assert "tissue_values 1, 3" in str(other.exception)


def test_plan_and_preview_know_the_values(slides: Path, masks: Path, tmp_path: Path) -> None:
    own = ["--min-tissue", "0.5", "--masks", str(masks), "--tissue-values", "1-2"]
    sizes = ["--crop-size", "64", "--batch-size", "16", "--memory", "1", "--seconds", "0.5"]
    result = CliRunner().invoke(app, ["plan", str(slides), *own, *sizes, "--json"])
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)["options"]
    assert (found["masks"], found["tissue_values"]) == (str(masks), "1-2")
    out = ["--out", str(tmp_path / "pictures"), "--chunk-size", "256", "--crop-size", "64"]
    result = CliRunner().invoke(app, ["preview", str(slides), *own, *out, "--json"])
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["slides"][0]["tissue"] == 0.5


def test_a_value_decides_what_is_drawn_also_where_another_was_cached(
    slides: Path, masks: Path, tmp_path: Path
) -> None:
    dataset = Dataset.from_folder(slides)
    cache = tmp_path / "cache"
    for value in (1, 2):
        tiles = TileSource(
            dataset,
            tile_size=64,
            min_tissue=1.0,
            masks=masks,
            tissue_values=[value],
            num_workers=0,
            cache_dir=cache,
        )
        with tiles as source:
            assert source.tiles_per_slide == {0: 32}
        crops = BigChunkSource(
            dataset,
            chunk_size=512,
            crop_size=64,
            batch_size=16,
            resident=1,
            min_tissue=1.0,
            masks=masks,
            tissue_values=[value],
            num_workers=0,
            cache_dir=cache,
        )
        with crops as source:
            state = source.state_dict()
            assert state["masks"] == f"own masks 2 by tissue_values {value}"
    half = measure_tissue(
        dataset, masks=masks, tissue_values=[1, 2], num_workers=0, cache_dir=cache
    )
    area = half.slides[0].tissue
    assert area is not None and area.pixels == 1024 * 512 / 2
    with pytest.raises(DatasetError, match="none of 1 slides has tissue"):
        measure_tissue(dataset, masks=masks, num_workers=0, cache_dir=cache)


def test_values_without_masks_are_refused(slides: Path) -> None:
    dataset = Dataset.from_folder(slides)
    with pytest.raises(OptionError, match="tissue_values says what is tissue in masks of your own"):
        TileSource(dataset, min_tissue=0.5, tissue_values=[1])
    with pytest.raises(OptionError, match="tissue_values are used only together with min_tissue"):
        TileSource(dataset, tissue_values=[1])
    with pytest.raises(OptionError, match="masks of your own"):
        measure_tissue(dataset, tissue_values=[1])
