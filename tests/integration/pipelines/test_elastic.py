"""Elastic deformation against scipy, and that a crop's field is its own, whatever its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from pydmed_dali import BigChunkSource, InfoColumn, Point, Size, SmallChunkIterator
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pipelines.elastic import displace, elastic_field
from pydmed_dali.plan.random import mix
from pydmed_dali.synthetic.tissue_slides import tissue_image, write_tissue_slide
from tests.support import NAMES, folder_dataset

SIZE, SMOOTHNESS, DEVIATION = 48, 5.0, 2.0


def rows(*chunks_and_crops: tuple[int, int]) -> torch.Tensor:
    """`info` of crops."""
    info = torch.zeros(len(chunks_and_crops), len(InfoColumn), dtype=torch.int64)
    for row, (chunk, crop) in zip(info, chunks_and_crops, strict=True):
        row[InfoColumn.CHUNK], row[InfoColumn.CROP] = chunk, crop
    return info


def field_of(info: torch.Tensor, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    return elastic_field(info, size, deviation=DEVIATION, smoothness=SMOOTHNESS, seed=seed)


def tissue(count: int) -> torch.Tensor:
    """(count, 3, SIZE, SIZE) float32, grey values."""
    image = tissue_image(Size(2048, 2048), tissue="gland", seed=3)
    crops = [image.pixels(Point(900, 700 + 60 * n), Size(SIZE, SIZE), 1) for n in range(count)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


def test_a_field_is_smoothed_noise() -> None:
    """The noise is a hash of seed, chunk, crop and place; the smoothing is scipy's."""
    found = field_of(rows((7, 3)), seed=11)[0].numpy()
    reach = int(np.ceil(3 * SMOOTHNESS))
    wide = SIZE + 2 * reach
    bits = mix(11, 7, 3, np.arange(2 * wide * wide)) >> np.uint64(40)
    noise = bits.astype(float).reshape(2, wide, wide) * 2.0**-23 - 1
    smooth = np.stack([ndimage.gaussian_filter(one, SMOOTHNESS, truncate=3.0) for one in noise])
    inner = slice(reach, -reach)
    alpha = DEVIATION * SMOOTHNESS * 2 * np.sqrt(3 * np.pi)
    expected = alpha * smooth[:, inner, inner].transpose(1, 2, 0)
    # alpha is that of a whole Gaussian, which here is cut at three standard deviations
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.01)


def test_displacements_have_their_deviation_and_no_direction() -> None:
    fields = field_of(rows(*((chunk, crop) for chunk in range(8) for crop in range(25))))
    assert fields.shape == (200, SIZE, SIZE, 2)
    assert fields.std().item() == pytest.approx(DEVIATION, rel=0.03)
    assert abs(fields.mean().item()) < 0.05
    assert abs((fields[..., 0] * fields[..., 1]).mean().item()) < 0.1 * DEVIATION**2


def test_a_crops_field_is_its_own_whatever_its_batch() -> None:
    places = [(chunk, crop) for chunk in (0, 1) for crop in range(3)]
    fields = field_of(rows(*places))
    for number, place in enumerate(places):
        torch.testing.assert_close(field_of(rows(place))[0], fields[number], rtol=0, atol=1e-5)
    assert len({field.numpy().tobytes() for field in fields}) == len(places)
    assert not torch.equal(field_of(rows(*places), seed=1), fields)


@pytest.mark.parametrize("nearest", [False, True])
def test_displacing_is_what_scipy_does(nearest: bool) -> None:
    images = tissue(3)
    fields = 4 * field_of(rows((0, 0), (0, 1), (5, 2)))  # far enough to cross the border
    found = displace(images, fields, nearest=nearest).numpy()
    y, x = np.mgrid[:SIZE, :SIZE]
    wrong = 0
    for result, image, field in zip(found, images.numpy(), fields.numpy(), strict=True):
        places = [y + field[..., 1], x + field[..., 0]]
        assert min(places[0].min(), places[1].min()) < -1, "it crosses the border"
        for channel, original in zip(result, image, strict=True):
            expected = ndimage.map_coordinates(
                original, places, order=0 if nearest else 1, mode="mirror"
            )
            if nearest:  # a place just between two pixels may fall to either
                wrong += int((channel != expected).sum())
            else:
                np.testing.assert_allclose(channel, expected, atol=0.05)
    assert wrong <= 0.001 * found.size


def test_a_field_of_zeros_changes_nothing() -> None:
    images = tissue(2)
    torch.testing.assert_close(
        displace(images, torch.zeros(2, SIZE, SIZE, 2)), images, atol=1e-3, rtol=0
    )


def test_a_resumed_run_is_deformed_alike(tmp_path: Path) -> None:
    """Batches of a source: the place in the data is all that has to be saved."""
    (tmp_path / "a").mkdir()
    write_tissue_slide(tmp_path / "a" / "slide.svs", Size(640, 640), tissue="tumor", seed=1)
    dataset = folder_dataset(tmp_path)
    options: dict[str, Any] = {"chunk_size": 256, "crop_size": SIZE, "batch_size": 4, "resident": 2}

    def deformed(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return displace(batch["image"].permute(0, 3, 1, 2).float(), field_of(batch["info"]))

    def loader_of(source: BigChunkSource) -> SmallChunkIterator:
        return SmallChunkIterator(basic(source), NAMES, batches_per_epoch=4)

    with BigChunkSource(dataset, crops_per_chunk=8, num_workers=0, **options) as source:
        loader = loader_of(source)
        expected = []
        for batch in loader:
            expected.append(deformed(batch))
            if len(expected) == 2:
                state = loader.state_dict()
    with BigChunkSource(dataset, crops_per_chunk=8, num_workers=0, **options) as source:
        loader = loader_of(source)
        loader.load_state_dict(state)
        for found, wanted in zip(map(deformed, loader), expected[2:], strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("wrong", [{"deviation": 0.0}, {"smoothness": -1.0}])
def test_numbers_that_make_no_field_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="must be positive"):
        elastic_field(rows((0, 0)), SIZE, **wrong)
