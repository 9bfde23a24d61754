"""Fixtures, and the rule that no test leaves a process or shared memory behind."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

from pydmed_dali import Dataset, Size
from pydmed_dali.slide.cache import VARIABLE
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide

# A machine with other work to do makes examples slow, but nothing wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell that starts pytest in the background has it, and what it starts, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

_DURATIONS = Path(__file__).with_name("durations.json")
"""Seconds that each test file took when `make durations` ran, for the order of the next runs."""
_SECONDS = 10.0
_MAPPING = "memfd:pydmed-dali"
COORDINATE_SIZE = Size(1536, 1280)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make durations`."""
    parser.addoption(
        "--record-durations", action="store_true", help=f"write {_DURATIONS.name} after the run"
    )


def pytest_configure(config: pytest.Config) -> None:
    """A GPU is hidden, from what tests start too, unless `-m gpu` asks for the tests that need it.

    So all others are the same on every machine, and those have the card for themselves.
    """
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no process is left with one when the others have ended.

    And skip what needs a GPU where there is none, with that reason.
    """
    seconds: dict[str, float] = json.loads(_DURATIONS.read_text())
    items.sort(key=lambda item: -seconds.get(item.nodeid.split("::")[0], 0.0))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from pydmed_dali.dali.device import gpu_count  # imports DALI, which most tests do not need

    if not gpu_count():
        for item in marked:
            item.add_marker(
                pytest.mark.skip(reason="no CUDA GPU that DALI can use, or not run by -m gpu")
            )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write down how long each file took, where that is asked for; short ones are left out."""
    if not config.getoption("record_durations"):
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.split("::")[0]] += report.duration
    long = {name: round(value, 1) for name, value in sorted(seconds.items()) if value >= 1}
    _DURATIONS.write_text(json.dumps(long, indent=1) + "\n")


@pytest.fixture(autouse=True)
def poisoned_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop of pixels that were never read shows a colour that no slide has."""
    monkeypatch.setenv("PYDMED_DALI_POISON", "1")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each test: no child, no mapping of a ring, no shared file, within a deadline."""
    shared = set(os.listdir("/dev/shm"))
    yield
    until = time.monotonic() + _SECONDS
    while (left := _left_behind(shared)) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert not left


def _left_behind(shared: set[str]) -> list[str]:
    children = [f"process {child}" for child in psutil.Process().children(recursive=True)]
    maps = Path("/proc/self/maps").read_text().splitlines()
    files = [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - shared]
    return children + [line for line in maps if _MAPPING in line] + files


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_slides() -> Path:
    """The folder of real slides, which the project does not ship."""
    named = os.environ.get("PYDMED_DALI_TEST_SLIDES")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "slides"
    if not folder.is_dir():
        pytest.skip(f"no real slides at {folder}; set PYDMED_DALI_TEST_SLIDES to their folder")
    return folder


@pytest.fixture(scope="session")
def coordinate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six coordinate slides with three levels, in two classes."""
    folder = tmp_path_factory.mktemp("coordinates")
    for number in range(6):
        target = folder / ("even", "odd")[number % 2] / f"slide-{number}.tif"
        target.parent.mkdir(exist_ok=True)
        write_coordinate_slide(target, COORDINATE_SIZE, levels=3, mpp=0.5)
    return folder


@pytest.fixture(scope="session")
def coordinates(coordinate_folder: Path) -> Dataset:
    """The dataset of the coordinate slides."""
    return Dataset.from_folder(coordinate_folder, label=lambda path: path.parent.name)


@pytest.fixture(scope="session")
def coordinate_extents() -> dict[int, Size]:
    """The size of each level of the coordinate slides."""
    width, height = COORDINATE_SIZE.width, COORDINATE_SIZE.height
    return {level: Size(width >> level, height >> level) for level in range(3)}
