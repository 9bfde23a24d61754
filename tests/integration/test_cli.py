"""The command line: what each command prints, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from typer.testing import CliRunner

from pydmed_dali import BigChunkSource, Dataset, __version__
from pydmed_dali.cli.app import app
from pydmed_dali.cli.cuda_check import judge
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.tissue_mask import compute_mask
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.faults.programs import await_end
from tests.scanned_slides import write_scn

PROGRAM = (sys.executable, "-c", "from pydmed_dali.cli.app import main; main()")
HEAVY = {"cupy", "matplotlib", "numpy", "nvidia", "openslide", "torch"}


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder with one good slide and one broken file."""
    folder = tmp_path / "slides"
    folder.mkdir()
    write_coordinate_slide(folder / "good.tif", Size(600, 500), levels=2, mpp=0.25)
    (folder / "broken.svs").write_bytes(b"no slide at all")
    return folder


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"pydmed-dali {__version__}\n")


def test_version_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr))\n"
        "from pydmed_dali.cli.app import main; main()"
    )
    for arguments in (["--version"], ["--help"], ["demo", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600
        )
        assert (done.returncode, done.stderr.strip()) == (0, "")


def test_inspect_tells_what_a_slide_says_of_itself(slides: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(slides / "good.tif"), "--json"])
    assert result.exit_code == 0
    (slide,) = json.loads(result.stdout)["slides"]
    assert slide == {
        "path": str(slides / "good.tif"),
        "readable": True,
        "reason": None,
        "vendor": "generic-tiff",
        "reader": slide["reader"],
        "reader_reason": "its tiles are coded as ADOBE_DEFLATE in RGB",
        "dimensions": [600, 500],
        "levels": [
            {
                "dimensions": [600, 500],
                "downsample": 1.0,
                "tile": [256, 256],
                "magnification": pytest.approx(40, rel=1e-3),
            },
            {
                "dimensions": [300, 250],
                "downsample": 2.0,
                "tile": [256, 256],
                "magnification": pytest.approx(20, rel=1e-3),
            },
        ],
        "mpp": pytest.approx([0.25, 0.25], rel=1e-3),
        "objective_power": None,
        "background": [255, 255, 255],
        "background_reason": "white, as the file tells none and its ground is not dark",
        "bounds": None,
        "remarks": [],
        "tissue": pytest.approx(_tissue(slides / "good.tif"), abs=1e-4),
    }


def test_inspect_tells_what_was_scanned(tmp_path: Path) -> None:
    pixels = np.full((300, 400, 3), (2, 4, 6), np.uint8)
    slide = write_scn(tmp_path / "a.scn", pixels, Point(100, 200), Size(800, 700))
    result = CliRunner().invoke(app, ["inspect", str(slide), "--json"])
    (told,) = json.loads(result.stdout)["slides"]
    assert told["dimensions"] == [800, 700] and told["bounds"] == [100, 200, 400, 300]
    assert told["background"] == [2, 4, 6] and "dark ground" in told["background_reason"]
    shown = CliRunner().invoke(app, ["inspect", str(slide)]).stdout
    assert "400x300 pixels from (100, 200) of level 0 on" in shown
    assert "#020406: the slide's own dark ground" in shown


def _tissue(path: Path) -> float:
    slide = OpenSlideSlide(path)
    share = compute_mask(slide).share
    slide.close()
    return share


def test_inspect_goes_on_after_a_broken_slide(slides: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(slides), "--json"])
    assert result.exit_code == 0
    broken, good = json.loads(result.stdout)["slides"]
    assert good["readable"]
    assert not broken["readable"]
    assert "OpenSlide cannot open it" in broken["reason"]


def test_inspect_tells_what_is_drawn_on_a_slide(tmp_path: Path) -> None:
    slide = write_coordinate_slide(tmp_path / "slide.tif", Size(300, 200), levels=1)
    file = tmp_path / "slide.geojson"
    for moved, areas in ((0, {"tumor": 5000.0}), (1000, {})):
        ring = [[x + moved, y] for x, y in ((10, 10), (110, 10), (110, 60), (10, 60))]
        shape = {"type": "Polygon", "coordinates": [ring]}
        drawn = {"type": "Feature", "geometry": shape, "properties": {"label": "tumor"}}
        file.write_text(json.dumps(drawn))
        result = CliRunner().invoke(app, ["inspect", str(slide), "--json"])
        (told,) = json.loads(result.stdout)["slides"]
        assert told["readable"] and told["annotated_areas"] == areas
        assert (told["annotation_problem"] is None) == bool(areas)
        shown = CliRunner().invoke(app, ["inspect", str(slide)]).stdout
        assert ("tumor: 5,000 pixels of level 0" if areas else "outside the slide") in shown


def test_commands_take_exclusions(tmp_path: Path) -> None:
    slide = tmp_path / "slide.tif"
    write_coordinate_slide(slide, Size(400, 300), levels=1)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name}},
        }
        for name, ring in (
            ("_0", [[0, 0], [400, 0], [400, 300], [0, 300]]),
            ("_2", [[0, 0], [200, 0], [200, 300], [0, 300]]),
        )
    ]
    (tmp_path / "slide.geojson").write_text(json.dumps(features))
    for options, areas in (
        ([], {"_0": 120_000.0, "_2": 60_000.0}),
        (["--exclusion", "_2"], {"_0": 60_000.0}),
    ):
        told = CliRunner().invoke(app, ["inspect", str(slide), "--json", *options])
        assert json.loads(told.stdout)["slides"][0]["annotated_areas"] == areas
    limit = ["inspect", str(slide), "--json", "--max-annotation-bytes", "9"]
    told = CliRunner().invoke(app, limit)
    assert "more than max_bytes=9" in json.loads(told.stdout)["slides"][0]["annotation_problem"]


def test_inspect_prints_a_table_a_slide(slides: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(slides)])
    assert result.exit_code == 0
    for words in (
        "600x500, downsample 1, 40x",
        "300x250, downsample 2, 20x",
        "unknown, 40x by the convention of 10 / mpp",
        "0.25 x 0.25",
        "generic-tiff",
        "of the slide",
    ):
        assert words in result.stdout
    assert str(slides / "broken.svs") in result.stdout


def test_inspect_fails_where_no_slide_can_be_read(slides: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(slides / "broken.svs"), "/nowhere.svs"])
    assert result.exit_code == 1
    assert "/nowhere.svs: there is no such file" in " ".join(result.stdout.split())


def test_a_slide_that_opens_but_cannot_be_read_is_broken(slides: Path) -> None:
    path = slides / "good.tif"
    with tifffile.TiffFile(path) as file:
        finest = file.pages.first
        tiles = list(zip(finest.dataoffsets, finest.databytecounts, strict=True))
    with path.open("r+b") as data:
        for offset, length in tiles:
            data.seek(offset)
            data.write(bytes(length))
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    (slide,) = json.loads(result.stdout)["slides"]
    assert result.exit_code == 1
    assert not slide["readable"]
    assert "OpenSlide cannot read" in slide["reason"]
    assert slide["dimensions"] == [600, 500]


def test_doctor_finds_this_machine_well() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"]) == (0, True)
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["pydmed-dali"]["found"] == __version__
    assert "each pixel as it should be" in checks["worker and pipeline (cpu)"]["found"]
    assert {"GPU", "cores", "free memory", "torch", "OpenSlide library"} <= set(checks)


def test_doctor_tests_each_residency_or_says_why_not() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", "--gpu-test"])
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    there_is_one = checks["GPU"]["found"].startswith("DALI finds")
    for residency in ("device", "mapped", "host"):
        expected = "each pixel as it should be" if there_is_one else "there is no GPU"
        assert expected in checks[f"GPU test ({residency})"]["found"]


@pytest.mark.parametrize(
    ("driver", "dali", "torch", "status", "words"),
    [
        (13000, 12000, 12080, "ok", "driver 13; built for: DALI 12, CuPy 12.9, torch 12.8"),
        (13000, 12000, 13000, "warning", "one major version of CUDA"),
        (12020, 12000, 13000, "failed", "too old for torch: update it, or install builds for"),
        (13000, 12000, None, "ok", "torch none"),
    ],
)
def test_doctor_says_whether_cuda_versions_go_together(
    driver: int, dali: int, torch: int | None, status: str, words: str
) -> None:
    check = judge(driver, {"DALI": dali, "CuPy": 12090, "torch": torch}, gpus=1)
    assert check.status == status
    assert words in f"{check.found} {check.remedy}"


def test_doctor_prints_a_table() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "All required checks passed." in result.stdout


@pytest.mark.parametrize("module", ["openslide", "torch", "nvidia.dali", "psutil"])
def test_doctor_names_the_remedy_for_an_import_that_fails(module: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom pydmed_dali.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (1, "")
    remedies = [line for line in done.stdout.splitlines() if "install" in line]
    assert len(remedies) == 1
    assert module.split(".")[-1] in remedies[0]


def test_doctor_takes_a_missing_cupy_for_a_warning_where_there_is_no_gpu() -> None:
    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "from pydmed_dali.dali import device; device.gpu_count = lambda: 0\n"
        "from pydmed_dali.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    (cupy,) = (c for c in json.loads(done.stdout)["checks"] if c["name"].startswith("cupy"))
    assert (done.returncode, cupy["status"]) == (0, "warning")


def test_doctor_reports_a_pipeline_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: str, residency: str = "auto") -> str:
        raise RuntimeError("nothing came out")

    monkeypatch.setattr("pydmed_dali.cli.self_test.run_trial", fail)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    failed = [c for c in json.loads(result.stdout)["checks"] if c["status"] == "failed"]
    assert result.exit_code == 1
    assert "nothing came out" in failed[0]["found"]
    assert failed[0]["remedy"]


def test_demo_streams_from_the_slides_it_is_given(slides: Path, tmp_path: Path) -> None:
    sizes = ["--chunk-size", "256", "--crop-size", "64", "--batch-size", "8"]
    where = ["--slides", str(slides), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["demo", *where, *sizes, "--steps", "5", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["slides_used"] == [str(slides / "good.tif")]
    assert [skipped["path"] for skipped in found["slides_skipped"]] == [str(slides / "broken.svs")]
    assert "OpenSlide cannot open it" in found["slides_skipped"][0]["reason"]
    assert found["batch_shape"] == [8, 3, 64, 64]
    assert found["chunks_read"] > 0
    assert found["crops_per_second"] > 0
    assert 0 <= found["starved_fraction"] <= 1
    assert found["device"] in ("cpu", "gpu")
    assert found["picture"] == str(tmp_path / "out" / "demo.png")


def test_demo_prints_a_summary(slides: Path, tmp_path: Path) -> None:
    sizes = ["--chunk-size", "256", "--crop-size", "64", "--batch-size", "8"]
    where = ["--slides", str(slides), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["demo", *where, *sizes, "--steps", "2"])
    assert result.exit_code == 0
    assert "crops per second" in result.stdout
    assert "2 of 8 x 3 x 64 x 64" in result.stdout


def test_an_error_is_a_message_and_no_traceback(tmp_path: Path) -> None:
    done = run("demo", "--slides", tmp_path, "--out", tmp_path / "out", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pydmed-dali: {tmp_path} holds no slide" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_folder_that_cannot_be_is_an_error(slides: Path) -> None:
    done = run("demo", "--slides", slides, "--out", slides / "good.tif")
    assert done.returncode == 1
    assert "cannot be a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_is_told_from_failure(slides: Path, tmp_path: Path) -> None:
    assert run("demo", "--steps", "none").returncode == 2
    done = run("demo", "--slides", slides, "--out", tmp_path / "out", "--device", "abacus")
    assert done.returncode == 1
    assert "device must be 'auto', 'cpu' or 'gpu', not 'abacus'" in done.stderr


def test_ctrl_c_ends_with_130_and_leaves_no_worker(slides: Path, tmp_path: Path) -> None:
    arguments = ["demo", "--slides", slides, "--out", tmp_path / "out", "--steps", "1000000"]
    sizes = ["--chunk-size", "256", "--crop-size", "64", "--num-workers", "1"]
    command = [*PROGRAM, *map(str, arguments), *sizes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        children = _children(program.pid, seconds=60)
        program.send_signal(signal.SIGINT)
        _, words = program.communicate(timeout=600)
    assert program.returncode == 130
    assert b"Traceback" not in words
    await_end([child.pid for child in children])  # multiprocessing's resource tracker ends last


def _children(pid: int, seconds: float) -> list[psutil.Process]:
    """The children of a process as soon as it has some."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if children := psutil.Process(pid).children():
            return children
        time.sleep(0.05)
    raise AssertionError(f"process {pid} started no child within {seconds} s")


def test_plan_without_slides_uses_typical_figures() -> None:
    result = CliRunner().invoke(app, ["plan", "--memory", "2", "--crops-per-second", "5000"])
    assert result.exit_code == 0
    assert "name your slides" in result.stdout and "BigChunkSource(" in result.stdout


@pytest.mark.parametrize("columns", ["80", "60"])
def test_no_word_of_a_plan_is_cut(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = CliRunner().invoke(app, ["plan", "--memory", "4"])
    assert result.exit_code == 0
    assert "…" not in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    if columns == "80":
        words = result.stdout.split()
        assert {"crops/s", "decoded/", "delivered", "Mpx/s", "memory", "crops_per_chunk=512,"} <= {
            *words
        }
        assert sum(line.startswith("→") for line in lines) == 1


def test_plan_for_slides_gives_options_that_work(slides: Path) -> None:
    arguments: list[str | Path] = [
        "plan",
        slides,
        "--crop-size",
        "64",
        "--batch-size",
        "16",
        "--memory",
        "1",
    ]
    done = run(*arguments, "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["measured"] and found["expected"]["crops_per_second"] > 0
    with BigChunkSource(Dataset.from_folder(slides), **found["options"]) as source:
        assert source.options.crops_per_chunk == found["options"]["crops_per_chunk"]


def test_bench_compares_with_a_dataloader_over_openslide(slides: Path) -> None:
    sizes = ["--chunk-size", "256", "--crop-size", "64", "--batch-size", "16"]
    arguments: list[str | Path] = ["bench", slides, *sizes]
    short = ["--seconds", "0.5", "--rounds", "1", "--num-workers", "1", "--resident", "4"]
    done = run(*arguments, *short, "--crops-per-chunk", "16", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["crops_per_second"] > 0
    assert found["openslide_dataloader_crops_per_second"] > 0
    assert (found["slides"], found["slides_skipped"]) == (1, 1)
    shown = run(*arguments, *short)
    assert "OpenSlide" in shown.stdout and "pydmed-dali" in shown.stdout


@pytest.mark.parametrize("command", ["plan", "bench"])
def test_a_folder_without_readable_slides_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "broken.svs").write_bytes(b"no slide")
    done = run(command, tmp_path)
    assert done.returncode == 1
    assert "broken.svs" in done.stderr and "Traceback" not in done.stderr
