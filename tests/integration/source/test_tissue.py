"""Crops with tissue on them, from the slides to the batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from shapely import box

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    Patient,
    Record,
    Size,
    SmallChunkIterator,
    TileSource,
    measure_tissue,
)
from pydmed_dali.errors import OptionError, SlideMaskError, StateError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.slide.tissue_mask import TissueMask, compute_mask
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from tests.drawings import write_geojson
from tests.support import NAMES, first, sum_up, take, write_picture

RUN: dict[str, Any] = {
    "chunk_size": 512,
    "crop_size": 128,
    "batch_size": 32,
    "resident": 4,
    "crops_per_chunk": 16,
    "num_workers": 0,
}


@pytest.fixture(scope="session")
def tissues(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The palest and the darkest tissue, each on a slide of which a third is glass."""
    folder = tmp_path_factory.mktemp("tissues")
    for seed, tissue in enumerate(("fat", "tumor")):
        write_tissue_slide(folder / f"{tissue}.svs", Size(2048, 1536), tissue=tissue, seed=seed)
    return Dataset.from_folder(folder)


@pytest.fixture
def folder_of_own_masks(tissues: Dataset, tmp_path: Path) -> Path:
    """A mask of each slide, of another resolution: its right half is tissue."""
    pixels = np.zeros((120, 160), np.uint8)
    pixels[:, 80:] = 255
    for record in tissues.slides:
        Image.fromarray(pixels).save(tmp_path / f"{record.path.stem}.png")
    return tmp_path


def _masks(dataset: Dataset) -> Iterator[TissueMask]:
    for record in dataset.slides:
        slide = BigChunkLoader().open_slide(record.path)
        yield compute_mask(slide)
        slide.close()


def _shares(mask: TissueMask, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The tissue of each crop of `info`, counted pixel by pixel in level 0."""
    shares = []
    for row in rows:
        x, y = (np.arange(row[c], row[c] + row[w]) + 0.5 for c, w in _SPANS)
        inside = mask.pixels[
            np.ix_((y / mask.pixel[1]).astype(int), (x / mask.pixel[0]).astype(int))
        ]
        shares.append(inside.mean())
    return np.array(shares)


_SPANS = ((InfoColumn.X, InfoColumn.LEVEL0_WIDTH), (InfoColumn.Y, InfoColumn.LEVEL0_HEIGHT))


@pytest.mark.parametrize("least", [0.5, 1.0])
def test_every_crop_has_so_much_tissue(tissues: Dataset, least: float) -> None:
    with BigChunkSource(tissues, **RUN, min_tissue=least) as source:
        rows = sum_up(take(source, 24))["info"]
        stats = source.stats()
    for slide, mask in enumerate(_masks(tissues)):
        own = rows[rows[:, InfoColumn.SLIDE] == slide]
        assert len(own) > 300
        assert _shares(mask, own).min() >= least
        assert stats.tissue_shares[tissues.slides[slide].path] == mask.share


def test_without_min_tissue_crops_lie_on_glass_too(tissues: Dataset) -> None:
    with BigChunkSource(tissues, **RUN) as source:
        rows = sum_up(take(source, 24))["info"]
        assert source.stats().tissue_shares == {}
    shares = np.concatenate(
        [_shares(m, rows[rows[:, InfoColumn.SLIDE] == n]) for n, m in enumerate(_masks(tissues))]
    )
    assert (shares < 0.5).mean() > 0.15


def test_workers_and_a_warm_cache_change_nothing(tissues: Dataset, tmp_path: Path) -> None:
    runs = []
    for workers, cache in ((0, "a"), (2, "b"), (2, "b"), (0, "a")):
        options = {**RUN, "num_workers": workers, "cache_dir": tmp_path / cache}
        with BigChunkSource(tissues, **options, min_tissue=0.5) as source:
            runs.append(sum_up(take(source, 8)))
    kept = sorted(file.name for file in (tmp_path / "a").glob("*/*"))
    assert kept == sorted(file.name for file in (tmp_path / "b").glob("*/*"))
    assert len(kept) == 3 * len(tissues.slides), "each slide's facts, mask and eligible places"
    for run in runs[1:]:
        for name in NAMES:
            np.testing.assert_array_equal(run[name], runs[0][name])


def test_a_damaged_cache_is_computed_anew(tissues: Dataset, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        with BigChunkSource(tissues, **RUN, min_tissue=0.5, cache_dir=tmp_path) as source:
            runs.append(sum_up(take(source, 2))["info"])
        for file in tmp_path.glob("*/*"):
            file.write_bytes(file.read_bytes()[:-1])
    np.testing.assert_array_equal(runs[0], runs[1])


def test_a_folder_that_cannot_be_written_is_warned_of_once(
    tissues: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for _ in range(2):
        with BigChunkSource(tissues, **RUN, min_tissue=0.5, cache_dir=blocked) as source:
            assert len(take(source, 1)) == 1
    assert sum("cannot be written" in record.message for record in caplog.records) == 1


def test_a_resumed_run_goes_on_with_the_same_crops(
    tissues: Dataset, folder_of_own_masks: Path
) -> None:
    with BigChunkSource(tissues, **RUN, min_tissue=0.5) as source:
        loader = SmallChunkIterator(basic(source), NAMES)
        batches = list(first(loader, 6))
        state = source.state_dict(after=batches[2]["info"])
    with BigChunkSource(tissues, **RUN, min_tissue=0.5) as source:
        source.load_state_dict(state)
        got = sum_up(take(source, 3))
    for name in NAMES:
        np.testing.assert_array_equal(got[name], sum_up(batches[3:])[name])
    with (
        BigChunkSource(tissues, **RUN, min_tissue=0.6) as source,
        pytest.raises(StateError, match=r"min_tissue: saved 0\.5, here 0\.6"),
    ):
        source.load_state_dict(state)
    masks: dict[str, Any] = {"min_tissue": 0.5, "masks": folder_of_own_masks}
    with (
        BigChunkSource(tissues, **RUN, **masks) as source,
        pytest.raises(StateError, match=r"masks: saved 'glass 1', here 'own masks 2'"),
    ):
        source.load_state_dict(state)


def test_a_slide_without_tissue_is_skipped_and_reported(
    tissues: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    glass = write_picture(tmp_path / "glass.tif", np.full((700, 900, 3), 243, np.uint8))
    patients = [*tissues.patients, Patient("glass", (Record(tmp_path, PurePosixPath(glass.name)),))]
    with BigChunkSource(Dataset(tuple(patients)), **RUN, min_tissue=0.5) as source:
        crops = [crop for batch in take(source, 12) for crop in source.describe(batch["info"])]
        (reason,) = source.report().slides_skipped.values()
        assert source.report().chunks_substituted >= 1
    assert glass not in {crop.record.path for crop in crops}
    assert "no crop of 128x128 has min_tissue=0.5: tissue covers 0.0% of the slide" in reason
    assert reason.startswith(str(glass)) and "pydmed-dali preview" in reason
    assert sum(reason in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_slide_without_tissue_stops_a_run_that_is_to_be_stopped(
    tmp_path: Path, workers: int
) -> None:
    write_picture(tmp_path / "glass.tif", np.full((700, 900, 3), 243, np.uint8))
    options = {**RUN, "num_workers": workers, "on_error": "raise"}
    dataset = Dataset.from_folder(tmp_path)
    with (
        BigChunkSource(dataset, **options, min_tissue=0.5) as source,
        pytest.raises(Exception, match=r"min_tissue=0\.5") as caught,
    ):
        take(source, 1)
    assert isinstance(caught.value, SlideMaskError) or "SlideMaskError" in str(caught.value)


@pytest.mark.parametrize("by_function", [False, True])
def test_masks_of_the_user_s_decide(
    tissues: Dataset, folder_of_own_masks: Path, by_function: bool
) -> None:
    def by_name(path: Path) -> Path:
        return folder_of_own_masks / f"{path.stem}.png"

    masks = by_name if by_function else folder_of_own_masks
    with BigChunkSource(tissues, **RUN, min_tissue=1.0, masks=masks) as source:
        rows = sum_up(take(source, 8))["info"]
        assert set(source.stats().tissue_shares.values()) == {0.5}
    assert rows[:, InfoColumn.X].min() >= 1024
    assert rows[:, InfoColumn.X].min() < 1060 and rows[:, InfoColumn.X].max() > 1860


def test_a_changed_mask_of_the_user_s_is_read_anew(
    tissues: Dataset, folder_of_own_masks: Path
) -> None:
    with BigChunkSource(tissues, **RUN, min_tissue=1.0, masks=folder_of_own_masks) as source:
        take(source, 1)
    for file in folder_of_own_masks.iterdir():
        Image.fromarray(np.asarray(Image.open(file))[:, ::-1]).save(file)
    with BigChunkSource(tissues, **RUN, min_tissue=1.0, masks=folder_of_own_masks) as source:
        rows = sum_up(take(source, 4))["info"]
    assert (rows[:, InfoColumn.X] + 128).max() <= 1024


def test_a_mask_of_another_shape_is_refused_with_both_names(
    tissues: Dataset, folder_of_own_masks: Path
) -> None:
    odd = folder_of_own_masks / "fat.png"
    Image.fromarray(np.ones((100, 160), np.uint8)).save(odd)
    with BigChunkSource(tissues, **RUN, min_tissue=0.5, masks=folder_of_own_masks) as source:
        take(source, 8)
        ((path, reason),) = source.report().slides_skipped.items()
    assert path.name == "fat.svs"
    assert str(odd) in reason and str(path) in reason and "160x100" in reason
    assert "2048x1536" in reason


def test_bad_options_are_refused(tissues: Dataset, folder_of_own_masks: Path) -> None:
    (folder_of_own_masks / "fat.png").unlink()
    bad: list[tuple[str, dict[str, Any]]] = [
        ("min_tissue must be", {"min_tissue": 0}),
        ("min_tissue must be", {"min_tissue": 1.5}),
        ("min_tissue must be", {"min_tissue": True}),
        ("min_tissue must be", {"min_tissue": "half"}),
        ("only together with min_tissue", {"masks": folder_of_own_masks}),
        (
            r"1 of 2 slides have no mask.*fat\.png",
            {"min_tissue": 0.5, "masks": folder_of_own_masks},
        ),
        ("is no folder", {"min_tissue": 0.5, "masks": folder_of_own_masks / "none"}),
        ("raised ZeroDivisionError", {"min_tissue": 0.5, "masks": lambda path: 1 / 0}),
    ]
    for message, options in bad:
        with pytest.raises(OptionError, match=message):
            BigChunkSource(tissues, **RUN, **options)


def test_a_source_by_resolution_keeps_the_promise_too(tissues: Dataset) -> None:
    """At 0.8 micrometres per pixel the crops are larger and resampled."""
    with BigChunkSource(tissues, **RUN, mpp=0.8, min_tissue=0.9) as source:
        rows = sum_up(take(source, 8))["info"]
    assert rows[0, InfoColumn.LEVEL0_WIDTH] == 205
    for slide, mask in enumerate(_masks(tissues)):
        own = rows[rows[:, InfoColumn.SLIDE] == slide]
        # places are rounded to level-0 pixels, which can move an edge by one in 205
        assert _shares(mask, own).min() >= 0.9 - 2 / 205


def test_crops_of_a_class_have_their_centre_in_it_and_enough_tissue(
    tissues: Dataset, tmp_path: Path
) -> None:
    drawing = [("left", box(0.3, 0.3, 1000.7, 1536)), ("right", box(1000.7, 0.3, 1800.6, 900.2))]
    for record in tissues.slides:
        write_geojson(tmp_path / f"{record.path.stem}.geojson", drawing)
    with BigChunkSource(
        tissues, **RUN, min_tissue=0.9, annotations=tmp_path, classes={"left": 0.4, "right": 0.4}
    ) as source:
        rows = sum_up(take(source, 12))["info"]
    x, y = rows[:, InfoColumn.X] + 64, rows[:, InfoColumn.Y] + 64
    expected = np.where(x < 1000.7, 1, np.where((x < 1800.6) & (y < 900.2), 2, 0))
    np.testing.assert_array_equal(rows[:, InfoColumn.CLASS], expected)
    assert set(expected.tolist()) == {0, 1, 2}
    for slide, mask in enumerate(_masks(tissues)):
        assert _shares(mask, rows[rows[:, InfoColumn.SLIDE] == slide]).min() >= 0.9


def test_a_mask_that_finds_next_to_nothing_is_warned_of_once(
    tissues: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.zeros((120, 160), np.uint8)
    pixels[50:58, 50:60] = 255  # 0.42%, as large as a crop
    for record in tissues.slides:
        Image.fromarray(pixels).save(tmp_path / f"{record.path.stem}.png")
    with BigChunkSource(tissues, **RUN, min_tissue=0.1, masks=tmp_path) as source:
        take(source, 4)
    _expect_a_warning_each(tissues, caplog)
    with TileSource(tissues, num_workers=0, tile_size=128, min_tissue=0.1, masks=tmp_path):
        _expect_a_warning_each(tissues, caplog)
    measure_tissue(tissues, masks=tmp_path, num_workers=0)
    _expect_a_warning_each(tissues, caplog)


def _expect_a_warning_each(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    told = [record.getMessage() for record in caplog.records if "by its mask" in record.msg]
    caplog.clear()
    assert sorted(told) == sorted(
        f"{record.path}: only 0.42% of the slide is tissue by its mask, so all its crops are of a "
        "few places; look at it by `pydmed-dali preview`. Give a mask of your own (masks) if "
        "tissue is missed, else leave the slide out"
        for record in dataset.slides
    )
