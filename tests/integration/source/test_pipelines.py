"""The pipelines that are shipped, and pipelines of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali
import pytest
import torch

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.errors import OptionError, SourceError
from pydmed_dali.pipelines.classification import MEAN, STD, classification
from tests.support import NAMES, take

OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 48,
    "batch_size": 16,
    "resident": 3,
    "crops_per_chunk": 12,
    "num_workers": 0,
}


def classify(dataset: Dataset, **options: Any) -> dict[str, torch.Tensor]:
    with BigChunkSource(dataset, **OPTIONS) as source:
        batch: dict[str, torch.Tensor]
        for batch in SmallChunkIterator(classification(source, **options), NAMES):
            return batch
    raise AssertionError("no batch")


def plain_crops(dataset: Dataset) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with BigChunkSource(dataset, **OPTIONS) as source:
        return take(source, 1)[0]["image"].numpy()


def test_classification_without_augmentation_normalises(coordinates: Dataset) -> None:
    batch = classify(coordinates, augment=False)
    scaled = plain_crops(coordinates).astype(np.float32) / 255
    expected = ((scaled - MEAN) / STD).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(batch["image"].numpy(), expected, atol=1e-5)


def test_classification_turns_and_mirrors(coordinates: Dataset) -> None:
    """Each crop is one of the eight turns of the plain one; its colours change a little."""
    batch = classify(coordinates)
    images = batch["image"].numpy().transpose(0, 2, 3, 1) * STD + MEAN
    kinds = set()
    for image, plain in zip(images, plain_crops(coordinates) / 255.0, strict=True):
        turned = [np.rot90(mirrored, n) for mirrored in (plain, plain[::-1]) for n in range(4)]
        errors = [np.abs(image - candidate).mean() for candidate in turned]
        kinds.add(int(np.argmin(errors)))
        assert min(errors) < 0.12
    assert len(kinds) >= 4


def test_the_same_seed_augments_alike(coordinates: Dataset) -> None:
    one, other = classify(coordinates), classify(coordinates)
    np.testing.assert_array_equal(one["image"], other["image"])
    assert not np.array_equal(one["image"], classify(coordinates, seed=99)["image"])


def test_a_pipeline_in_a_module_outside_the_package(
    coordinates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_pipelines.py").write_text(
        "from nvidia.dali import fn\n"
        "from pydmed_dali import pipeline_def\n"
        "@pipeline_def\n"
        "def inverted(source, low=0):\n"
        "    crops = source.small_chunks()\n"
        "    return 255 - crops.image + low, crops.label, crops.info\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_pipelines  # type: ignore[import-not-found]

    with BigChunkSource(coordinates, **OPTIONS) as source:
        batch = next(iter(SmallChunkIterator(my_pipelines.inverted(source), NAMES)))
    np.testing.assert_array_equal(batch["image"], 255 - plain_crops(coordinates).astype(np.int32))
    sys.modules.pop("my_pipelines")


def test_dalis_own_pipeline_def(coordinates: Dataset) -> None:
    @nvidia.dali.pipeline_def
    def own(source: BigChunkSource) -> Any:
        crops = source.small_chunks()
        return crops.image, crops.label, crops.info

    with BigChunkSource(coordinates, **OPTIONS) as source:
        pipeline = own(source, **source.pipeline_options)
        batch = next(iter(SmallChunkIterator(pipeline, NAMES)))
    np.testing.assert_array_equal(batch["image"], plain_crops(coordinates))


def test_an_error_comes_out_of_a_pipeline_with_conditionals_as_it_is(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        first = classification(source)
        for _ in range(2):
            with pytest.raises(SourceError, match="serves a pipeline already"):
                classification(source)
        assert first is not None, "it is kept, so the source is taken"


def test_classification_restains(coordinates: Dataset) -> None:
    """With the same seed all but the stain is alike, and the more of it, the further off."""
    plain, light, strong = (classify(coordinates, stain=s)["image"] for s in (0.0, 0.05, 0.2))
    assert not torch.equal(plain, light)
    light_change, strong_change = ((image - plain).abs().mean() for image in (light, strong))
    assert 0 < light_change < strong_change


@pytest.mark.parametrize(
    "name", ["basic", "classification", "multiple_instance", "self_supervised"]
)
def test_a_module_bears_its_pipelines_name(name: str) -> None:
    module = __import__(f"pydmed_dali.pipelines.{name}", fromlist=[name])
    assert callable(getattr(module, name))


def test_an_option_that_a_pipeline_does_not_have_is_refused(coordinates: Dataset) -> None:
    """And the source can be used for the right one."""
    with BigChunkSource(coordinates, **OPTIONS) as source:
        with pytest.raises(OptionError, match=r"no option stian; did you mean stain\? It has augm"):
            classification(source, stian=0.1)
        with pytest.raises(OptionError, match="did you mean num_threads"):
            classification(source, num_thread=1)
        assert next(iter(SmallChunkIterator(classification(source, num_threads=1), NAMES)))
