"""What a file holds that is named as a model, and that none runs code that is not trusted."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from pydmed_dali.errors import OptionError
from pydmed_dali.infer.model_file import Held, held_by
from pydmed_dali.infer.models import load_model

script: Any = torch.jit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Mean(torch.nn.Module):
    """(N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 1)
        self.dropout = torch.nn.Dropout()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.dropout(self.convolution(image)).mean(dim=(2, 3))
        return found


def exported(path: Path, **options: Any) -> Path:
    batch = torch.export.Dim("batch", min=1, max=512)
    program = torch.export.export(
        Mean().eval(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},), strict=False
    )
    torch.export.save(program, path, **options)
    return path


@pytest.mark.parametrize(
    ("save", "held"),
    [
        (lambda p: script.save(script.script(Mean()), p), Held.SCRIPT),
        (lambda p: exported(p.with_suffix(".pt2")).rename(p), Held.EXPORT),
        (lambda p: torch.save(Mean().state_dict(), p), Held.WEIGHTS),
        (lambda p: torch.save({"model": Mean().state_dict(), "epoch": 3}, p), Held.WEIGHTS),
        (lambda p: torch.save(Mean(), p), Held.PICKLED),
        (
            lambda p: torch.save(Mean().state_dict(), p, _use_new_zipfile_serialization=False),
            Held.PICKLED,
        ),
        (lambda p: p.write_bytes(b"\x10\0\0\0\0\0\0\0" + b'{"a":{}}        '), Held.SAFETENSORS),
        (lambda p: p.write_text("nothing"), Held.OTHER),
        (lambda p: p.write_bytes(b""), Held.OTHER),
        (lambda p: zipfile.ZipFile(p, "w").writestr("a/b", "c"), Held.OTHER),
    ],
)
def test_what_a_file_holds_is_told_by_its_contents(save: Any, held: Held, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    save(file)
    assert held_by(file) is held


@pytest.mark.parametrize("what", ["weights", "network"])
def test_weights_alone_are_refused_with_how_to_make_a_model_of_them(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is told works, as it stands."""
    file, network = tmp_path / "model.pth", Mean().eval()
    torch.save(network.state_dict() if what == "weights" else network, file)
    with pytest.raises(OptionError) as error:
        load_model(str(file), "cpu")
    told = str(error.value)
    assert "corrupt" not in told
    assert ("state dict" if what == "weights" else "pickled") in told
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"torch\.(?:jit|export)\.save\(.*?, 'model\.pt2?'\)", told):
        exec(code, {"torch": torch, "network": network, "tiles": torch.zeros(2, 3, 8, 8)})
    tiles = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    wanted = network(tiles.permute(0, 3, 1, 2) / 255)
    for name in ("model.pt", "model.pt2"):
        model = load_model(str(tmp_path / name), "cpu", trust=True)
        torch.testing.assert_close(model(tiles), wanted)


@pytest.mark.parametrize("kind", ["script", "export"])
def test_a_file_states_how_it_is_given_tiles(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, extra = tmp_path / "model.pt2", {"normalize": "imagenet"}
    if kind == "script":
        script.save(script.script(Mean()), file, _extra_files=extra)
    else:
        exported(file, extra_files=extra)
    assert str(load_model(str(file), "cpu", trust=True).given) == "imagenet"
    assert not told(caplog)
    assert str(load_model(str(file), "cpu", "none", trust=True).given) == "none"
    assert told(caplog) == [f"{file} says normalize='imagenet', and is run with 'none'"]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "pydmed_dali.infer"]


def test_a_script_in_training_mode_is_evaluated(tmp_path: Path) -> None:
    script.save(script.script(Mean().train()), tmp_path / "model.pt")
    model = load_model(str(tmp_path / "model.pt"), "cpu")
    tiles = torch.full((1, 8, 8, 3), 7, dtype=torch.uint8)
    torch.testing.assert_close(model(tiles), model(tiles))


def test_a_program_of_export_is_moved_to_the_device(tmp_path: Path) -> None:
    """Here to torch's `meta`, which keeps shapes alone: every machine has it."""
    model: Any = load_model(str(exported(tmp_path / "model.pt2")), "meta", trust=True).model
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model(torch.zeros(3, 3, 32, 32, device="meta")).device.type == "meta"


def test_a_module_of_a_name_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "import torch\nnetwork = torch.nn.Sequential(torch.nn.Dropout())\n"
    (tmp_path / "training_model_of_a_test.py").write_text(text)
    model: Any = load_model("training_model_of_a_test:network", "cpu").model
    assert not model.training and not model[0].training


class _Runs:
    """Whoever unpickles this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("part", ["data/sample_inputs/model.pt", "data.pkl", "whole"])
@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_no_code_of_a_file_that_is_not_trusted_is_run(
    part: str, suffix: str, tmp_path: Path
) -> None:
    """Code in a program of torch.export, in what looks like TorchScript, and in a pickle."""
    mark, file = tmp_path / "ran", tmp_path / f"model{suffix}"
    evil = io.BytesIO()
    torch.save(((_Runs(mark),), {}), evil)
    if part == "whole":
        file.write_bytes(evil.getvalue())
    elif part == "data.pkl":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model/constants.pkl", pickle.dumps(_Runs(mark)))
            archive.writestr("model/data.pkl", pickle.dumps(_Runs(mark)))
            archive.writestr("model/version", "3")
    else:
        good = exported(tmp_path / "good.pt2")
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                content = evil.getvalue() if name.endswith(part) else old.read(name)
                new.writestr(name, content)
    with pytest.raises(OptionError) as error:
        load_model(str(file), "cpu")
    assert not mark.exists()
    if part.startswith("data/sample"):
        assert "add --trust-model" in str(error.value)
        with suppress(OptionError):  # what torch logs of it is no format that logging accepts
            load_model(str(file), "cpu", trust=True)
        assert mark.exists(), "torch runs it, so the test can fail"
