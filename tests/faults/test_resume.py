"""A run that is interrupted anywhere and goes on elsewhere gives what it would have given at once.

Byte for byte: images after augmentation, labels and `info`, of slides among which some are broken.
`PYDMED_DALI_RESUMES=50` makes it 50 interruptions within a process, 50 kills and 50 times Ctrl-C.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.programs import finish, line_of
from tests.faults.resumable import LINE, read, train, write_folder

CHECKOUT = Path(__file__).resolve().parents[2]
RESUMES = int(os.environ.get("PYDMED_DALI_RESUMES", 0))
STEPS = 40
AHEAD = 10
"""More steps than a program can run ahead of who reads its lines, by the pipe and its buffers."""
PASSES = [None, 2]
TRIES = 3
"""A Ctrl-C that comes while an object is being destroyed is dropped by Python, and the program goes
on: seen once in some hundred times."""


@pytest.fixture(scope="module")
def slides(coordinate_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("slides"), coordinate_folder)


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, list[str]]:
    """The digests of uninterrupted runs."""
    state = tmp_path_factory.mktemp("whole")
    runs = {
        passes: list(train(slides, state / f"{passes}.json", STEPS, passes, 2, 2))
        for passes in PASSES
    }
    for passes, digests in runs.items():
        assert len(set(digests)) == STEPS, "augmented otherwise in each run over the slides"
        source = read(state / f"{passes}.json")["data"]["source"]
        assert len(source["skipped_slides"]) >= 2
    return runs


def draw(number: int) -> tuple[random.Random, int | None, list[int], list[int]]:
    """(generator, passes, two numbers of workers, two prefetch depths) of an interruption."""
    chance = random.Random(number)
    workers, depths = chance.sample(range(4), 2), chance.sample(range(1, 5), 2)
    return chance, PASSES[number % 2], workers, depths


@pytest.mark.parametrize("number", range(RESUMES or 10))
def test_interrupted_twice_and_resumed(
    slides: Path, whole: dict[int | None, list[str]], tmp_path: Path, number: int
) -> None:
    chance, passes, workers, depths = draw(number)
    state = tmp_path / ("state.pt" if chance.random() < 0.5 else "state.json")
    digests: list[str] = []
    for steps in [*sorted(chance.sample(range(1, STEPS), 2)), STEPS]:
        run = train(slides, state, STEPS, passes, workers[0], depths[0])
        while len(digests) < steps:
            digests.append(next(run))
        run.close()  # as an exception in the body of the loop would
        workers, depths = workers[::-1], depths[::-1]
    assert digests == whole[passes]


@pytest.mark.parametrize("number", range(1000, 1000 + (RESUMES or 3)))
def test_killed_and_resumed_in_a_new_process(
    slides: Path, whole: dict[int | None, list[str]], tmp_path: Path, number: int
) -> None:
    """The state is the one that the training loop wrote last."""
    end_and_resume(signal.SIGKILL, slides, whole, tmp_path, number)


@pytest.mark.parametrize("number", range(2000, 2000 + 2 * (RESUMES or 1), 2))
def test_ended_by_ctrl_c_and_resumed_in_a_new_process(
    slides: Path, whole: dict[int | None, list[str]], tmp_path: Path, number: int
) -> None:
    """The state is taken behind the exception, wherever in the loop or in DALI it came up."""
    end_and_resume(signal.SIGINT, slides, whole, tmp_path, number)


def end_and_resume(
    ending: signal.Signals,
    slides: Path,
    whole: dict[int | None, list[str]],
    folder: Path,
    number: int,
) -> None:
    chance, passes, workers, depths = draw(number)
    state = folder / ("state.pt" if chance.random() < 0.5 else "state.json")
    lines = chance.randrange(1, STEPS - AHEAD)
    codes = [interrupt(start(slides, state, passes, workers[0], depths[0]), lines, ending)]
    while codes[-1] != -ending and len(codes) < TRIES:
        state.unlink()
        codes.append(interrupt(start(slides, state, passes, workers[0], depths[0]), lines, ending))
    assert codes[-1] == -ending, f"it ended by itself: {codes}"
    step = read(state)["step"]
    assert 0 < step < STEPS
    code, out, errors = finish(start(slides, state, passes, workers[1], depths[1]))
    assert (code, out.split()) == (0, whole[passes][step:]), errors
    print(f"{ending.name} behind step {step} of {STEPS}, {passes=}, {workers=}, {depths=}: equal")


def interrupt(program: subprocess.Popen[str], lines: int, ending: signal.Signals) -> int:
    """Send a program the signal behind so many lines; its exit code."""
    for _ in range(lines):
        line_of(program)
    program.send_signal(ending)
    return finish(program)[0]


def start(
    slides: Path, state: Path, passes: int | None, workers: int, depth: int
) -> subprocess.Popen[str]:
    numbers: list[Any] = [STEPS, passes or 0, workers, depth]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.resumable", slides, state, *map(str, numbers)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pipesize=4 * LINE,
    )
