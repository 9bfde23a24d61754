"""Who takes part in the suite, and running one of them in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.accounting import Content
from benchmarks.measure import Round
from benchmarks.slides import ROOT
from benchmarks.workload import Workload
from pydmed_dali.slide.cache import VARIABLE as CACHE_VARIABLE

_PATIENCE = 300.0  # seconds beyond the timed run, after which a peer is taken to hang


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table."""

    peer: str
    """The module below `benchmarks.peers`."""
    title: str
    """What the table calls it."""
    needs: tuple[str, ...] = ()
    """Packages that it imports and that only the extra `bench` installs."""
    crops_per_chunk: int | None = None
    """How often it takes crops of one BigChunk, where it has any."""

    @property
    def key(self) -> str:
        """A name of its own, for results and options."""
        return self.peer if self.crops_per_chunk is None else f"{self.peer}-{self.crops_per_chunk}"


PEERS = (
    Contender("openslide_reads", "torch DataLoader + OpenSlide, one read per crop"),
    Contender("cucim_reads", "torch DataLoader + cuCIM, one read per crop", ("cucim",)),
    Contender("tiffslide_reads", "torch DataLoader + tiffslide, one read per crop", ("tiffslide",)),
    Contender("monai_patches", "MONAI PatchWSIDataset, cuCIM backend", ("monai", "cucim")),
    Contender("jpeg_tiles_pillow", "torch DataLoader + Pillow, tiles cut beforehand"),
    Contender("jpeg_tiles_dali", "DALI file reader + CPU decoder, tiles cut beforehand"),
)
WINDOW = Contender("torch_window", "the same reader and window in a torch DataLoader, R = {}")
OURS = Contender("this_project", "pydmed-dali, R = {}")
TILE_READERS = ("jpeg_tiles_pillow", "jpeg_tiles_dali")


def contenders(
    ours: Sequence[int], window: Sequence[int], peers: Sequence[str] | None = None
) -> list[Contender]:
    """Rows for the crops per chunk (R) of ours and of the window without DALI, and for the peers.

    `peers` names the modules that take part, by default all.
    """
    found = [
        *PEERS,
        *(replace(WINDOW, title=WINDOW.title.format(r), crops_per_chunk=r) for r in window),
        *(replace(OURS, title=OURS.title.format(r), crops_per_chunk=r) for r in ours),
    ]
    return [contender for contender in found if peers is None or contender.peer in peers]


def lacking(contender: Contender) -> str | None:
    """Why it cannot take part, as far as that shows without starting it."""
    missing = [name for name in contender.needs if find_spec(name) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} not installed: pip install -c constraints.txt -e '.[bench]'"


def run(contender: Contender, workload: Workload, before: Sequence[str] = ()) -> Round | str:
    """One round of a contender, or why there is none; `before` precedes its command line.

    It begins with an empty cache, so that no round profits from an earlier one, and leaves nothing
    in the user's.
    """
    if contender.crops_per_chunk is not None:
        workload = replace(workload, crops_per_chunk=contender.crops_per_chunk)
    with tempfile.TemporaryDirectory(prefix="pydmed-dali-cache-") as cache:
        found = in_own_process(
            f"benchmarks.peers.{contender.peer}",
            [*workload.arguments(), "--json"],
            Path(cache),
            workload.seconds + _PATIENCE,
            before,
        )
    return found if isinstance(found, str) else _round(found)


def in_own_process(
    module: str, options: Sequence[str], cache: Path, seconds: float, before: Sequence[str] = ()
) -> dict[str, Any] | str:
    """The JSON object that a module's last line is, or why there is none within `seconds`."""
    process = subprocess.Popen(
        [*before, sys.executable, "-m", module, *options],
        cwd=ROOT,
        env={**os.environ, CACHE_VARIABLE: str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its workers can be ended with it
    )
    return _outcome(process, seconds)


def _outcome(process: subprocess.Popen[str], seconds: float) -> dict[str, Any] | str:
    """What a process prints, or what became of it."""
    try:
        out, errors = process.communicate(timeout=seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return f"did not end within {seconds:.0f} s"
        raise
    if process.returncode:
        lines = errors.strip().splitlines()
        return f"failed: {lines[-1] if lines else f'exit code {process.returncode}'}"
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


def _round(found: dict[str, Any]) -> Round | str:
    if "unavailable" in found:
        return str(found["unavailable"])
    return Round(**{**found, "content": Content(**found["content"])})
