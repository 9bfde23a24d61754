"""The form in which models are given tiles: stated, checked before the run, kept with results."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pydmed_dali import BigChunkSource, Dataset, Size, SmallChunkIterator
from pydmed_dali.cli.app import app
from pydmed_dali.errors import OptionError, UserCodeError
from pydmed_dali.infer import predict, read_features, segment
from pydmed_dali.infer.class_map import description_of
from pydmed_dali.infer.model_input import FedModel, ModelInput
from pydmed_dali.infer.model_trial import try_model
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.integration.infer.two_slides import OPTIONS, write_two_slides

HALVES = "0.5,0.5,0.5,0.25,0.5,1.0"


def pixels(images: torch.Tensor) -> torch.Tensor:
    """(N, 3): the upper left pixel of images in CHW."""
    assert images.shape[1] == 3 and images.dtype == torch.float32
    return images[:, :, 0, 0]


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("none", (0, 0, 0), (1, 1, 1)),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (HALVES, (0.5, 0.5, 0.5), (0.25, 0.5, 1)),
    ],
)
def test_predict_gives_a_model_what_it_is_asked_to(
    tmp_path: Path, normalize: str, mean: Sequence[float], std: Sequence[float]
) -> None:
    dataset = write_two_slides(tmp_path / "slides")
    as_they_come = predict(dataset, lambda t: t[:, 0, 0].float(), tmp_path / "raw", **OPTIONS)
    done = predict(dataset, pixels, tmp_path / "out", normalize=normalize, **OPTIONS)
    for raw, file in zip(as_they_come.written, done.written, strict=True):
        found = read_features(file)
        wanted = (read_features(raw).features / 255 - mean) / std
        np.testing.assert_allclose(found.features, wanted, rtol=1e-5, atol=1e-6)
        assert found.attributes["normalize"] == normalize
        assert "normalize" not in read_features(raw).attributes
    assert json.loads((tmp_path / "out" / "run.json").read_text())["normalize"] == normalize


def test_imagenet_is_what_the_pipeline_for_classifiers_gives(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_tissue_slide(tmp_path / "slides" / "a.svs", Size(256, 256), tissue="gland", seed=1)
    dataset = Dataset.from_folder(tmp_path / "slides")
    options: dict[str, Any] = {"chunk_size": 256, "crop_size": 256, "batch_size": 1}
    with BigChunkSource(dataset, resident=1, num_workers=0, **options) as source:
        pipeline = classification(source, augment=False)
        batch = next(iter(SmallChunkIterator(pipeline, ["image", "label", "info"])))
        trained_on = batch["image"].clone()
    seen = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return images.mean(dim=(2, 3))

    asked: dict[str, Any] = {**OPTIONS, "tile_size": 256}
    predict(dataset, model, tmp_path / "out", normalize="imagenet", **asked)
    torch.testing.assert_close(seen[0], trained_on, rtol=1e-4, atol=1e-5)


def test_segment_gives_a_model_what_it_is_asked_to(tmp_path: Path) -> None:
    dataset = write_two_slides(tmp_path / "slides")
    seen: list[torch.Tensor] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images[:, :2]

    done = segment(dataset, model, tmp_path / "out", normalize=HALVES, **OPTIONS)
    assert description_of(done.written[0])["normalize"] == HALVES
    assert seen[0].shape == (7, 3, 64, 64)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["normalize"] == HALVES


def test_results_of_another_normalisation_are_not_mixed_with(tmp_path: Path) -> None:
    dataset = write_two_slides(tmp_path / "slides")
    predict(dataset, pixels, tmp_path / "out", normalize="imagenet", **OPTIONS)
    with pytest.raises(OptionError, match=r"normalize: there 'imagenet', here 'none'$"):
        predict(dataset, pixels, tmp_path / "out", normalize="none", **OPTIONS)
    numbers = "0.485,0.456,0.406,0.229,0.224,0.225"  # the same, said otherwise
    assert len(predict(dataset, pixels, tmp_path / "out", normalize=numbers, **OPTIONS).kept) == 2


@pytest.mark.parametrize(
    "wrong", ["", "image-net", "0.5", "0.5,0.5", "0,0,0,1,1,0", "0,0,0,1,1,-1", "nan,0,0,1,1,1"]
)
def test_what_says_no_form_is_refused(wrong: str) -> None:
    with pytest.raises(OptionError, match=r"'raw' .*'none' .*'imagenet' .*six numbers"):
        ModelInput.of(wrong)


@given(
    st.lists(st.floats(-10, 10), min_size=3, max_size=3),
    st.lists(st.floats(1e-3, 10), min_size=3, max_size=3),
)
def test_the_words_of_a_form_say_the_same_form(mean: list[float], std: list[float]) -> None:
    form = ModelInput.by(mean, std)
    assert ModelInput.of(str(form)) == form
    assert str(ModelInput.of("raw")) == "raw" and not ModelInput.of("raw").record


def test_a_wrong_layout_is_told_with_both_layouts_before_the_run() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1))
    raw = FedModel(lambda tiles: network(tiles).flatten(1), ModelInput.of("raw"))
    with pytest.raises(UserCodeError) as error:
        try_model(raw, "mine", Size(64, 32), 256, "cpu")
    told = str(error.value)
    assert "it was given (2, 32, 64, 3) uint8 (normalize='raw')" in told
    assert "a model that takes (2, 3, 32, 64) floats is run with normalize 'none'" in told
    fitting = FedModel(lambda tiles: network(tiles).flatten(1), ModelInput.of("none"))
    try_model(fitting, "mine", Size(64, 32), 256, "cpu")
    takes_raw = FedModel(lambda tiles: network(tiles.permute(0, 3, 1, 2)), ModelInput.of("none"))
    with pytest.raises(UserCodeError, match=r"takes \(2, 32, 64, 3\) uint8 is run with normalize"):
        try_model(takes_raw, "mine", Size(64, 32), 256, "cpu")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda tiles: tiles[:, :2],
            r"shape \(1, 2, 8, 8\).* is run by pydmed_dali\.infer\.segment",
        ),
        (lambda tiles: {"logits": tiles}, r"returned dict of shape \(\).* of shape \(1, K\)$"),
        (lambda tiles: tiles[:, 0, 0, 0], r"returned Tensor of shape \(1,\)"),
        (lambda tiles: tiles.flatten(1)[:, :0], r"returned Tensor of shape \(1, 0\)"),
    ],
)
def test_an_answer_of_another_shape_is_told_before_the_run(answer: Any, words: str) -> None:
    with pytest.raises(UserCodeError, match=words):
        try_model(FedModel(answer, ModelInput.of("none")), "mine", Size(8, 8), 1, "cpu")


def test_a_model_that_raises_in_predict_is_told_what_it_was_given(tmp_path: Path) -> None:
    dataset = write_two_slides(tmp_path / "slides")
    network = torch.nn.Conv2d(3, 4, 3)
    with pytest.raises(UserCodeError, match=r"given \(7, 64, 64, 3\) uint8.* 'none', 'imagenet'"):
        predict(dataset, network, tmp_path / "out", **OPTIONS)


def test_layers_in_training_mode_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = write_two_slides(tmp_path / "slides")
    network = torch.nn.Sequential(
        torch.nn.BatchNorm2d(3), torch.nn.Dropout(), torch.nn.AdaptiveAvgPool2d(1)
    )
    model = torch.nn.Sequential(network, torch.nn.Flatten())
    with caplog.at_level(logging.WARNING, "pydmed_dali.infer"):
        predict(dataset, model.eval(), tmp_path / "evaluated", normalize="none", **OPTIONS)
        assert not caplog.messages
        predict(dataset, model.train(), tmp_path / "trained", normalize="none", **OPTIONS)
    (told,) = caplog.messages
    assert "layers in training mode (BatchNorm2d, Dropout)" in told and "eval()" in told


def test_the_command_says_what_the_model_is_given_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_two_slides(tmp_path / "slides")
    (tmp_path / "stating_model.py").write_text(
        "def corner(images):\n    return images[:, :, 0, 0]\n\ncorner.normalize = 'imagenet'\n"
        "def raw(tiles):\n    return tiles[:, 0, 0].float()\n"
    )
    common = ["--tile-size", "64", "--num-workers", "0", "--batch-size", "7", "--json"]

    def infer(model: str, out: str, *more: str) -> Any:
        asked = ["infer", "slides", "--model", f"stating_model:{model}", "--out", out]
        return CliRunner().invoke(app, [*asked, *common, *more])

    result = infer("corner", "out")
    assert result.exit_code == 0, result.output
    assert "given tiles as (N, 3, 64, 64) float32 (normalize='imagenet')" in result.stderr
    assert read_features(tmp_path / "out" / "a.h5").attributes["normalize"] == "imagenet"
    result = infer("corner", "out", "--normalize", "none")
    assert "normalize: there 'imagenet', here 'none'" in str(result.exception)
    result = infer("raw", "raw")
    assert "given tiles as (N, 64, 64, 3) uint8 (normalize='raw')" in result.stderr
    result = infer("raw", "none", "--normalize", "imagenet-21k")
    assert "normalize must be 'raw'" in str(result.exception)
