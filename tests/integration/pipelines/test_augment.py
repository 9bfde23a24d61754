"""Each building block against what it is, computed by numpy or Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from PIL import Image

from pydmed_dali import Point, Size
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines import augment
from pydmed_dali.pipelines.augment.cutout import GLASS
from pydmed_dali.pipelines.augment.stain import HED
from pydmed_dali.synthetic.tissue_slides import TISSUES, tissue_image

SIDE = 64
BATCH = 8
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Nodes = DataNode | tuple[DataNode, ...]


@pytest.fixture(scope="module")
def tissue() -> Pixels:
    """(BATCH, SIDE, SIDE, 3): two crops of each tissue."""
    crops = [
        tissue_image(Size(2048, 2048), tissue=kind, seed=3).pixels(
            Point(1000, y), Size(SIDE, SIDE), 1
        )
        for kind in TISSUES
        for y in (900, 1100)
    ]
    return np.stack(crops)


def run(images: Pixels, block: Callable[[DataNode], Nodes], seed: int = 1) -> list[Any]:
    """The outputs of a pipeline in which `block` gets the images: numpy arrays."""

    @pipeline_def(enable_conditionals=True)
    def pipeline() -> Any:
        image = fn.external_source(lambda: images, batch=True, layout="HWC")
        return block(image)

    made: Pipeline = pipeline(batch_size=len(images), num_threads=1, device_id=None, seed=seed)
    return [stacked(output, len(images)) for output in made.run()]


def stacked(output: Any, length: int) -> NDArray[Any]:
    return np.stack([np.asarray(output.at(i)) for i in range(length)])


def augmented(images: Pixels, block: Callable[[DataNode], DataNode], seed: int = 1) -> Pixels:
    (found,) = run(images, block, seed)
    assert found.dtype == np.uint8
    return np.asarray(found)


def grey_values(values: Floats) -> Floats:
    return np.clip(values, 0, 255)


def test_turn_gives_the_eight_turns_alike_often(tissue: Pixels) -> None:
    images = np.repeat(tissue[:1], 400, axis=0)
    turned = [np.rot90(one, n) for one in (tissue[0], tissue[0][::-1]) for n in range(4)]
    counts = np.zeros(8, int)
    for image in augmented(images, augment.turn):
        (kind,) = [k for k, candidate in enumerate(turned) if np.array_equal(image, candidate)]
        counts[kind] += 1
    assert counts.min() >= 30 and counts.sum() == 400


def reference_rotation(image: Pixels, size: int, angle: float, zoom: float) -> Floats:
    """Linear interpolation at the places that the result's pixels have in the image."""
    along = (np.arange(size) + 0.5 - size / 2) / zoom
    x, y = np.meshgrid(along, along)
    turn = np.deg2rad(angle)
    column = np.cos(turn) * x - np.sin(turn) * y + image.shape[1] / 2 - 0.5
    row = np.sin(turn) * x + np.cos(turn) * y + image.shape[0] / 2 - 0.5
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    assert min(left.min(), top.min()) >= 0, "a corner lies outside of the crop"
    assert max(left.max(), top.max()) + 1 < image.shape[0], "a corner lies outside of the crop"
    across, down = (column - left)[..., None], (row - top)[..., None]
    upper = image[top, left] * (1 - across) + image[top, left + 1] * across
    lower = image[top + 1, left] * (1 - across) + image[top + 1, left + 1] * across
    return np.asarray(upper * (1 - down) + lower * down)


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, -90.0, 171.0])
@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.25])
def test_rotate_is_linear_interpolation_at_turned_places(
    tissue: Pixels, angle: float, zoom: float
) -> None:
    size = 36
    assert augment.crop_size_to_rotate(size, (zoom, zoom)) <= SIDE
    found = augmented(
        tissue, lambda image: augment.rotate(image, SIDE, size, (angle, angle), (zoom, zoom))
    )
    for image, original in zip(found, tissue, strict=True):
        expected = reference_rotation(original, size, angle, zoom)
        np.testing.assert_allclose(image, expected, atol=1.01)


def test_rotate_refuses_a_crop_that_is_too_small(tissue: Pixels) -> None:
    assert augment.crop_size_to_rotate(224) == 396
    assert augment.crop_size_to_rotate(224, (1.0, 2.0)) == 317
    with pytest.raises(OptionError, match=r"crop_size=64 is too small .* crop_size=71"):
        augmented(tissue, lambda image: augment.rotate(image, SIDE, 40))


YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
"""From RGB, as NTSC defined it."""


@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation", "hue"),
    [(1.1, 1.0, 1.0, 0.0), (1.0, 0.8, 1.0, 0.0), (1.0, 1.0, 1.3, 0.0), (0.9, 1.1, 0.8, 20.0)],
)
def test_colour_jitter_is_a_matrix_in_yiq(
    tissue: Pixels, brightness: float, contrast: float, saturation: float, hue: float
) -> None:
    found = augmented(
        tissue,
        lambda image: augment.colour_jitter(
            image, *((value, value) for value in (brightness, contrast, saturation, hue))
        ),
    )
    turn = np.deg2rad(hue)
    turned = [[1, 0, 0], [0, np.cos(turn), np.sin(turn)], [0, -np.sin(turn), np.cos(turn)]]
    matrix = np.linalg.inv(YIQ) @ np.array(turned) @ np.diag([1, saturation, saturation]) @ YIQ
    expected = ((tissue @ matrix.T - 128) * contrast + 128) * brightness
    np.testing.assert_allclose(found, grey_values(expected), atol=1.5)


def reference_restaining(image: Pixels, factors: Floats, additions: Floats) -> Floats:
    """Through the amounts of stain, step by step, in floating point."""
    density = -np.log10((image.astype(np.float64) + 1) / 256)
    amounts = np.linalg.solve(HED.T, density.reshape(-1, 3).T).T
    restained = (amounts * factors + additions) @ HED
    return grey_values(256 * 10.0**-restained - 1).reshape(image.shape)


def test_restain_changes_the_amounts_of_stain(tissue: Pixels) -> None:
    def block(image: DataNode) -> Nodes:
        factors = fn.random.uniform(range=[0.7, 1.3], shape=[3])
        additions = fn.random.uniform(range=[-0.2, 0.2], shape=[3])
        return augment.restain(image, factors, additions), factors, additions

    found, factors, additions = run(tissue, block)
    assert np.ptp(factors, axis=0).min() > 0.1, "each crop has numbers of its own"
    for image, original, factor, addition in zip(found, tissue, factors, additions, strict=True):
        expected = reference_restaining(original, factor, addition)
        np.testing.assert_allclose(image, expected, atol=1.0)


def test_stain_jitter_stays_within_its_limits(tissue: Pixels) -> None:
    """Of one stain alone, hematoxylin: the amounts found again lie within the limits, and vary."""
    amount, sigma = 0.8, 0.1
    pixel = np.rint(256 * 10 ** (-amount * HED[0]) - 1).astype(np.uint8)
    images = np.broadcast_to(pixel, (200, 4, 4, 3)).copy()
    found = augmented(images, lambda image: augment.stain_jitter(image, sigma, sigma))[:, 0, 0]
    density = -np.log10((found.astype(np.float64) + 1) / 256)
    hematoxylin = np.linalg.solve(HED.T, density.T)[0]
    assert abs(hematoxylin.mean() - amount) < 0.02
    assert np.abs(hematoxylin - amount).max() < sigma * (amount + 1) + 0.03
    assert hematoxylin.std() == pytest.approx(sigma * np.hypot(amount, 1) / np.sqrt(3), rel=0.25)
    np.testing.assert_array_equal(
        augmented(tissue, lambda image: augment.stain_jitter(image, 0)), tissue
    )


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_blur_is_a_gaussian(tissue: Pixels, sigma: float) -> None:
    found = augmented(tissue, lambda image: augment.blur(image, (sigma, sigma)))
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    widened = np.pad(tissue, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = sum(w * widened[:, i : i + SIDE] for i, w in enumerate(weights))
    expected = sum(w * np.asarray(rows)[:, :, i : i + SIDE] for i, w in enumerate(weights))
    np.testing.assert_allclose(found, expected, atol=1.01)


def test_noise_has_its_deviation_and_no_pattern() -> None:
    grey = np.full((BATCH, SIDE, SIDE, 3), 128, np.uint8)
    found = augmented(grey, lambda image: augment.noise(image, (6.0, 6.0))).astype(float) - 128
    assert abs(found.mean()) < 0.1
    assert found.std() == pytest.approx(6.0, rel=0.03)
    assert abs(np.mean(found[:, :, 1:] * found[:, :, :-1])) < 0.5, "neighbours are independent"
    assert abs(np.mean(found[..., 0] * found[..., 1])) < 0.7, "channels are independent"
    assert abs(np.mean(found[0] * found[1])) < 1.5, "crops are independent"


def test_jpeg_is_what_pillow_makes_of_it(tissue: Pixels) -> None:
    found = augmented(tissue, lambda image: augment.jpeg(image, 30, 30))
    for image, original in zip(found, tissue, strict=True):
        file = io.BytesIO()
        Image.fromarray(original).save(file, "JPEG", quality=30, subsampling="4:2:0")
        expected = np.asarray(Image.open(file)).astype(float)
        assert np.abs(image - expected).mean() < 1.5
        assert np.abs(image - expected).mean() < np.abs(original - expected).mean() / 2


def test_cutout_erases_one_rectangle(tissue: Pixels) -> None:
    images = np.where(tissue == GLASS, GLASS - 1, tissue)
    repeated = np.concatenate([images] * 10)
    found = augmented(repeated, lambda image: augment.cutout(image, (0.1, 0.3)))
    sides = []
    for image, original in zip(found, repeated, strict=True):
        erased = (image == GLASS).all(axis=2)
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns), "it is one rectangle"
        assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
        np.testing.assert_array_equal(image[~erased], original[~erased])
        sides += [len(rows), len(columns)]
    assert max(sides) <= 0.3 * SIDE + 1
    assert len(set(sides)) > 8


BLOCKS: dict[str, Callable[[DataNode], DataNode]] = {
    "turn": augment.turn,
    "rotate": lambda image: augment.rotate(image, SIDE, 36),
    "colour_jitter": augment.colour_jitter,
    "stain_jitter": augment.stain_jitter,
    "blur": augment.blur,
    "noise": augment.noise,
    "jpeg": augment.jpeg,
    "cutout": augment.cutout,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_seed_decides_and_crops_differ(tissue: Pixels, name: str) -> None:
    same = np.repeat(tissue[:1], BATCH, axis=0)
    one, again, other = (augmented(same, BLOCKS[name], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert len(np.unique(one.reshape(BATCH, -1), axis=0)) >= 3


@pytest.mark.parametrize("name", BLOCKS)
def test_a_checkpoint_of_the_pipeline_holds_what_is_drawn_next(tissue: Pixels, name: str) -> None:
    """DALI refuses operators that it cannot save; here none is refused, and draws go on."""

    @pipeline_def(enable_conditionals=True)
    def pipeline() -> Any:
        return BLOCKS[name](fn.reshape(types.Constant(tissue[0]), layout="HWC"))

    def made(**options: Any) -> Pipeline:
        options = {"enable_checkpointing": True, **options}
        made: Pipeline = pipeline(batch_size=4, num_threads=1, device_id=None, seed=5, **options)
        return made

    def batch(pipe: Pipeline) -> Pixels:
        (output,) = pipe.run()
        return stacked(output, 4)

    first = made()
    batch(first)
    saved = first.checkpoint()
    expected = batch(first)
    np.testing.assert_array_equal(batch(made(checkpoint=saved)), expected)
