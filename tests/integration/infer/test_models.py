"""Models as the command line names them, and the command itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from pydmed_dali import Size
from pydmed_dali.cli.app import app
from pydmed_dali.cli.infer import run_infer
from pydmed_dali.errors import OptionError
from pydmed_dali.infer.models import load_model
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.with_timm import import_timm

CHECKOUT = Path(__file__).resolve().parents[3]
OWN = "def corner(tiles):\n    return tiles[:, 0, 0].float() / 255\n"


class Corner(torch.nn.Module):
    """(N, 3): the upper left pixel."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :, 0, 0]


def saved(kind: str, folder: Path) -> str:
    """A model in a file, or as a function, that says the same."""
    example = torch.zeros(2, 3, 32, 32)
    script: Any = torch.jit
    if kind == "script":
        script.save(script.script(Corner()), folder / "corner.pt")
        return str(folder / "corner.pt")
    if kind == "export":
        batch = torch.export.Dim("batch", min=1, max=512)
        program = torch.export.export(
            Corner(), (example,), dynamic_shapes={"image": {0: batch}}, strict=False
        )
        torch.export.save(program, folder / "corner.pt2")
        return str(folder / "corner.pt2")
    (folder / "own_model_of_a_test.py").write_text(OWN)
    return "own_model_of_a_test:corner"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["script", "export", "function"])
def test_every_form_of_a_model_says_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = load_model(saved(kind, tmp_path), "cpu", trust=True)
    tiles = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(model(tiles), tiles[:, 0, 0].float() / 255)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.pt", "there is no file 'gone.pt'; a model is a TorchScript file"),
        ("no_such_module:f", "no_such_module:f cannot be imported"),
        ("json:nothing", "json:nothing cannot be imported"),
        ("json:__name__", "must be a function of tiles"),
    ],
)
def test_what_is_no_model_is_refused(name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        load_model(name, "cpu")


def test_a_file_that_holds_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("nothing")
    with pytest.raises(OptionError, match=r"x\.pt cannot be loaded"):
        load_model(str(tmp_path / "x.pt"), "cpu")


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_a_missing_timm_is_told() -> None:
    with pytest.raises(OptionError, match="needs timm"):
        load_model("timm:resnet18", "cpu")


def test_a_network_of_timms_is_given_what_it_expects(tmp_path: Path) -> None:
    """From a folder of its weights: here nothing is fetched."""
    timm = import_timm()
    saved_network = timm.create_model("test_resnet", num_classes=3).eval()
    saved_network.pretrained_cfg["mean"] = (0.7, 0.5, 0.6)
    timm.models.save_for_hf(saved_network, tmp_path)
    tiles = torch.randint(0, 256, (5, 160, 160, 3), dtype=torch.uint8)
    with torch.inference_mode():
        features = load_model(f"timm:local-dir:{tmp_path}", "cpu")(tiles)
        saved_network.reset_classifier(0)
        mean, std = (torch.tensor(each) for each in ((0.7, 0.5, 0.6), (0.5, 0.5, 0.5)))
        wanted = saved_network(((tiles / 255 - mean) / std).permute(0, 3, 1, 2))
    assert features.shape == (5, 96)
    torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(OptionError, match="timm cannot make 'no_such_network'"):
        load_model("timm:no_such_network", "cpu")


def test_the_command_writes_results_and_pictures_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a", "b"):
        write_tissue_slide(slides / f"{name}.svs", Size(600, 500), tissue="gland", seed=1)
    (slides / "none.svs").write_text("no slide")
    model = saved("function", tmp_path)
    options = ["--model", model, "--out", str(tmp_path / "out"), "--tile-size", "100"]
    options += ["--column", "1", "--num-workers", "0", "--json"]
    told = []
    for _ in range(2):
        result = CliRunner().invoke(app, ["infer", str(slides), *options])
        assert result.exit_code == 0, result.output
        told.append(json.loads(result.stdout.splitlines()[-1]))
    first, again = told
    assert [Path(path).name for path in first["written"]] == ["a.h5", "b.h5"]
    assert [Path(path).name for path in first["pictures"]] == ["a-column-1.png", "b-column-1.png"]
    assert first["tiles"] == 60 and first["tiles_per_second"] > 0
    assert list(first["slides_skipped"]) == [str(slides / "none.svs")]
    assert (again["written"], again["tiles"], again["pictures"]) == ([], 0, [])
    Path(first["pictures"][1]).unlink()
    result = CliRunner().invoke(app, ["infer", str(slides), *options])
    assert json.loads(result.stdout.splitlines()[-1])["pictures"] == [first["pictures"][1]]
    assert [Path(path).name for path in again["kept"]] == ["a.h5", "b.h5"]
    with h5py.File(first["written"][0]) as file:
        assert file["features"].shape == (30, 3)
        assert np.isfinite(file["features"][()]).all()
    other = [*options, "--column", "2"]  # the last one given counts
    result = CliRunner().invoke(app, ["infer", str(slides), *other])
    pictures = [Path(path).name for path in json.loads(result.stdout.splitlines()[-1])["pictures"]]
    assert pictures == ["a-column-2.png", "b-column-2.png"]
    Path(first["written"][0]).touch()  # newer than its picture
    result = CliRunner().invoke(app, ["infer", str(slides), *options])
    pictures = [Path(path).name for path in json.loads(result.stdout.splitlines()[-1])["pictures"]]
    assert pictures == ["a-column-1.png"]
    result = CliRunner().invoke(app, ["infer", str(slides), *options, "--column", "3"])
    assert "has columns 0..2" in str(result.exception)
    result = CliRunner().invoke(app, ["infer", str(slides), *options, "--stride", "50"])
    assert isinstance(result.exception, OptionError)
    assert "stride: there '100x100', here '50x50'" in str(result.exception)


def test_the_bar_tells_slides_tiles_and_how_busy_the_processor_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a", "b"):
        write_tissue_slide(slides / f"{name}.svs", Size(600, 500), tissue="gland", seed=1)
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    options: dict[str, Any] = {"tile_size": 100, "num_workers": 0, "file_format": "zarr"}
    model = saved("function", tmp_path)
    found = run_infer(
        slides, model, tmp_path / "out", 0, (), console, device="cpu", batch_size=8, **options
    )
    assert [path.name for path in found.predicted.written] == ["a.zarr", "b.zarr"]
    assert [path.name for path in found.pictures] == ["a-column-0.png", "b-column-0.png"]
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "looking at the slides" in shown
    assert re.search(r"2 of 2 slides ━+ 60/60 tiles, [\d,]+/s, CPU \d+%", shown), shown


SLOW = """
import time
def slow(tiles):
    if tiles.shape[0] > 2:  # not the trial before the run
        with open("seen", "a") as seen:
            seen.write("x")
        if len(open("seen").read()) > 3:  # nine tiles a slide
            time.sleep(120)
    return tiles[:, 0, 0].float()
"""


def test_ctrl_c_tells_that_the_same_command_goes_on(tmp_path: Path) -> None:
    """Stopped in the second slide, when the first is finished; then it goes on."""
    (tmp_path / "slides").mkdir()
    for name in ("a", "b"):
        write_tissue_slide(
            tmp_path / "slides" / f"{name}.svs", Size(300, 300), tissue="gland", seed=1
        )
    (tmp_path / "slow_model_of_a_test.py").write_text(SLOW)
    command = [sys.executable, "-m", "pydmed_dali", "infer", "slides", "--out", "out", "--json"]
    command += ["--model", "slow_model_of_a_test:slow", "--tile-size", "100"]
    command += ["--batch-size", "3", "--num-workers", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        until = time.monotonic() + 120
        while not (tmp_path / "out" / "a.h5").exists():
            assert program.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=60)
    assert program.returncode == 130 and "Traceback" not in told
    assert "stopped; 1 slides are finished" in told and "kept in out" in told
    assert "start the same command again, and it goes on there" in told
    (tmp_path / "slow_model_of_a_test.py").write_text(SLOW.replace("sleep(120)", "sleep(0)"))
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["kept"], result["written"]) == (["out/a.h5"], ["out/b.h5"])
