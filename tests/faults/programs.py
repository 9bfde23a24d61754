"""Programs that tests run as a user would: from a file, or until a signal comes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

SECONDS = 60.0

PREAMBLE = """
import os, sys, time
from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic

def make(**options):
    dataset = Dataset.from_folder(sys.argv[1])
    settings = dict(chunk_size=256, crop_size=64, batch_size=8, resident=2, crops_per_chunk=8)
    return BigChunkSource(dataset, **{"num_workers": 2, **settings, **options})

def loader_of(source, batches=10):
    return SmallChunkIterator(basic(source), ["image", "label", "info"], batches_per_epoch=batches)

def workers():
    import psutil
    return [child.pid for child in psutil.Process().children()]
"""
"""No `__main__` guard: workers do not run the user's program again."""


def start(script: Path, body: str, folder: Path) -> subprocess.Popen[str]:
    """Start a program whose body follows the preamble; it gets the slides' folder as argument."""
    script.write_text(PREAMBLE + body)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        cwd=script.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a program, within a deadline."""
    try:
        out, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, errors


def run(script: Path, body: str, folder: Path) -> tuple[int, str, str]:
    """Start a program and wait for its end."""
    return finish(start(script, body, folder))


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def await_end(pids: list[int]) -> None:
    """Wait until all of these processes have ended; fail at the deadline."""
    until = time.monotonic() + SECONDS
    while alive := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < until, f"processes {alive} still run"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
