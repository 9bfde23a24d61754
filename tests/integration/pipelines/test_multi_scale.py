"""Concentric views: of one centre, each at its scale, and changed alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pydmed_dali import BigChunkSource, Dataset, Size, SmallChunkIterator
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.classification import MEAN, STD
from pydmed_dali.pipelines.multi_scale import multi_scale
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.support import read_directly

SIZE, SCALES = 32, (1, 2, 3, 4)
OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": SIZE * 4,
    "batch_size": 8,
    "resident": 2,
    "crops_per_chunk": 8,
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("slides")
    for number, kind in enumerate(("gland", "tumor")):
        write_tissue_slide(folder / f"{number}.svs", Size(640, 640), tissue=kind, seed=2)
    return Dataset.from_folder(folder)


def grey(view: torch.Tensor) -> NDArray[np.float64]:
    """(N, 3, height, width) normalised, as grey values (N, height, width, 3)."""
    channels_last = view.permute(0, 2, 3, 1).numpy().astype(float)
    return np.asarray((channels_last * STD + MEAN) * 255)


def test_each_view_is_the_middle_of_the_crop_at_its_scale(tissue: Dataset) -> None:
    with BigChunkSource(tissue, **OPTIONS) as source:
        pipeline = multi_scale(source, SIZE, SCALES, augment=False)
        batch = next(iter(SmallChunkIterator(pipeline)))
        crops = [read_directly(crop) for crop in source.describe(batch["info"])]
    for scale in SCALES:
        begin, end = SIZE * (4 - scale) // 2, SIZE * (4 + scale) // 2
        for view, crop in zip(grey(batch[f"scale_{scale}"]), crops, strict=True):
            middle = crop[begin:end, begin:end].reshape(SIZE, scale, SIZE, scale, 3)
            np.testing.assert_allclose(view, middle.mean(axis=(1, 3)), atol=0.51)
            if scale == 1:
                np.testing.assert_allclose(view, middle[:, 0, :, 0], atol=1e-3)


def test_views_are_turned_and_coloured_alike(tissue: Dataset) -> None:
    """The middle of a wider view is a narrower one, reduced; whatever was drawn for the crop."""
    with BigChunkSource(tissue, **OPTIONS) as source:
        pipeline = multi_scale(source, SIZE, SCALES, stain=0.2)
        batch = next(iter(SmallChunkIterator(pipeline)))
        crops = np.stack([read_directly(crop) for crop in source.describe(batch["info"])])
    fine, coarse = grey(batch["scale_1"]), grey(batch["scale_4"])
    low, high = SIZE * 3 // 8, SIZE * 5 // 8
    means = fine.reshape(8, SIZE // 4, 4, SIZE // 4, 4, 3).mean(axis=(2, 4))
    # Not exactly: the mean of changed colours is not the changed mean of them.
    assert np.abs(means - coarse[:, low:high, low:high]).mean() < 3.0
    plain = crops[:, SIZE * 3 // 2 : SIZE * 5 // 2, SIZE * 3 // 2 : SIZE * 5 // 2]
    assert np.abs(fine - plain).mean() > 10.0, "something was drawn"


@pytest.mark.parametrize(
    ("scales", "names"),
    [
        ({}, ("scale_1", "scale_2", "scale_4", "label", "info")),
        ({"scales": (1, 2)}, ("scale_1", "scale_2", "label", "info")),
    ],
)
def test_the_outputs_are_named_by_their_scales(
    tissue: Dataset, scales: dict[str, Any], names: tuple[str, ...]
) -> None:
    crop = SIZE * max(scales.get("scales", SCALES))
    with BigChunkSource(tissue, **OPTIONS | {"crop_size": crop}) as source:
        batch = next(iter(SmallChunkIterator(multi_scale(source, SIZE, **scales))))
    assert tuple(batch) == names


@pytest.mark.parametrize(
    ("size", "scales", "message"),
    [
        (SIZE, (), "scales must be whole numbers"),
        (SIZE, (0, 4), "scales must be whole numbers"),
        (SIZE, (1, 2.5), "scales must be whole numbers"),
        (31, (1, 4), "size must be an even number of pixels"),
        (SIZE, (1, 2), "make the source with crop_size=64"),
    ],
)
def test_what_does_not_fit_is_refused(
    tissue: Dataset, size: int, scales: Any, message: str
) -> None:
    with (
        BigChunkSource(tissue, **OPTIONS) as source,
        pytest.raises(OptionError, match=message),
    ):
        multi_scale(source, size, scales)
