"""Slides by the area of their tissue: found out once by workers, then part of the plan."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from PIL import Image

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    InfoColumn,
    Size,
    Slide,
    measure_tissue,
)
from pydmed_dali.errors import DatasetError, OptionError, StateError
from pydmed_dali.slide.tissue_mask import TissueMask
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.support import SMALL_RUN, sum_up, take, write_picture


class Refuses(BigChunkLoader):
    """Opens one slide only."""

    def open_slide(self, path: Path) -> Slide:
        if path.name != "large.svs":
            raise ValueError("not this one")
        return super().open_slide(path)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Much tissue, little tissue, glass alone, and a file that is no slide."""
    folder = tmp_path_factory.mktemp("areas")
    write_tissue_slide(folder / "large.svs", Size(1536, 1536), tissue="tumor", seed=1)
    write_tissue_slide(folder / "small.svs", Size(768, 768), tissue="gland", seed=2)
    write_picture(folder / "glass.tif", np.full((512, 512, 3), 243, np.uint8))
    (folder / "none.svs").write_text("no slide")
    return folder


@pytest.fixture(scope="module")
def prepared(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return measure_tissue(
        Dataset.from_folder(slides), num_workers=2, cache_dir=tmp_path_factory.mktemp("masks")
    )


def areas(dataset: Dataset) -> dict[str, float]:
    found = {}
    for record in dataset.slides:
        assert record.tissue is not None
        found[record.path.name] = record.tissue.pixels
    return found


def test_workers_find_out_what_this_process_does(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, heard = Dataset.from_folder(slides), []
    caplog.set_level(logging.WARNING)

    def hear(done: int, total: int) -> None:
        heard.append((done, total))

    found = measure_tissue(dataset, num_workers=2, cache_dir=tmp_path / "a", progress=hear)
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "none.svs" in caplog.text and "counts as a slide without tissue" in caplog.text
    own = areas(found)
    assert areas(measure_tissue(dataset, num_workers=0, cache_dir=tmp_path / "b")) == own
    assert own["glass.tif"] == own["none.svs"] == 0
    assert 0.4 < own["large.svs"] / 1536**2 < 0.9 and 0.4 < own["small.svs"] / 768**2 < 0.9


def test_masks_are_kept_and_a_loader_of_ones_own_is_used(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.from_folder(slides)
    found = measure_tissue(dataset, num_workers=1, cache_dir=tmp_path, loader=Refuses())
    assert [name for name, area in areas(found).items() if area] == ["large.svs"]

    def refuse(_: Slide) -> TissueMask:
        raise AssertionError("a mask that is kept was computed again")

    monkeypatch.setattr("pydmed_dali.worker.tissue_places.compute_mask", refuse)
    assert measure_tissue(dataset, num_workers=0, cache_dir=tmp_path, loader=Refuses()) == found


def test_slides_are_visited_in_proportion_to_their_tissue(prepared: Dataset) -> None:
    options: dict[str, Any] = {**SMALL_RUN, "chunk_size": 64, "crops_per_chunk": 2}
    with BigChunkSource(prepared, **options, balance="tissue") as source:
        info = sum_up(take(source, 100))["info"]
    slides = dict(info[:, [InfoColumn.CHUNK, InfoColumn.SLIDE]].tolist())
    counts = Counter(prepared.slides[slide].path.name for slide in slides.values())
    own = areas(prepared)
    for name in own:
        expected = len(slides) * own[name] / sum(own.values())
        assert abs(counts[name] - expected) < 3, (name, counts)


def test_patients_weights_multiply_with_areas(prepared: Dataset) -> None:
    options: dict[str, Any] = {**SMALL_RUN, "chunk_size": 64, "crops_per_chunk": 2}
    own = areas(prepared)
    weights = {"small.svs": own["large.svs"] / own["small.svs"]}
    with BigChunkSource(prepared, **options, balance="tissue", weights=weights) as source:
        info = sum_up(take(source, 100))["info"]
    slides = dict(info[:, [InfoColumn.CHUNK, InfoColumn.SLIDE]].tolist())
    counts = Counter(prepared.slides[slide].path.name for slide in slides.values())
    assert abs(counts["small.svs"] - counts["large.svs"]) <= 3


def test_parts_of_a_dataset_keep_what_was_found_out(prepared: Dataset) -> None:
    parts = prepared.split({"train": 0.5, "test": 0.5})
    assert {**areas(parts["train"]), **areas(parts["test"])} == areas(prepared)


def test_without_preparation_it_is_said_what_to_do(slides: Path, tmp_path: Path) -> None:
    dataset = Dataset.from_folder(slides)
    with pytest.raises(
        OptionError, match=r"call dataset = pydmed_dali.measure_tissue\(dataset\) first"
    ):
        BigChunkSource(dataset, **SMALL_RUN, balance="tissue")
    for record in dataset.slides:
        Image.new("L", (64, 64)).save(tmp_path / f"{record.path.stem}.png")
    with pytest.raises(DatasetError, match="none of 4 slides has tissue"):
        measure_tissue(dataset, masks=tmp_path, num_workers=0)
    with pytest.raises(OptionError, match="num_workers must be an int of at least 0"):
        measure_tissue(dataset, num_workers=-1)


def test_a_state_of_other_areas_is_refused(prepared: Dataset, slides: Path, tmp_path: Path) -> None:
    for record in prepared.slides:
        Image.new("L", (64, 64), 255).save(tmp_path / f"{record.path.stem}.png")
    other = measure_tissue(Dataset.from_folder(slides), masks=tmp_path, num_workers=0)
    with BigChunkSource(prepared, **SMALL_RUN, balance="tissue") as source:
        state = source.state_dict()
    with (
        BigChunkSource(other, **SMALL_RUN, balance="tissue") as source,
        pytest.raises(StateError, match="tissue areas: saved"),
    ):
        source.load_state_dict(state)


def test_real_slides_have_the_tissue_that_their_masks_show(
    real_slides: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The shares that docs/sampling.md names; broken slides among them have none."""
    dataset = measure_tissue(Dataset.from_folder(real_slides), num_workers=2)
    shares = {}
    for record in dataset.slides:
        assert record.tissue is not None
        if record.tissue.pixels:
            with openslide.OpenSlide(record.path) as slide:
                shares[record.path.name] = record.tissue.pixels / np.prod(slide.dimensions)
    for name, share in (
        ("CMU-1-Small-Region.svs", 0.39),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.64),
        ("packed-biopsies.tif", 0.22),
    ):
        assert abs(shares[name] - share) < 0.006, name
    assert "unreadable.svs" in caplog.text and "unreadable.svs" not in shares
