"""However a program ends, it leaves no process and says nothing that is not the user's business."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic
from tests.faults.programs import await_end, finish, line_of, run, start
from tests.own_loaders import Walk
from tests.support import NAMES, SMALL_RUN, take


def test_closing_twice(coordinates: Dataset) -> None:
    source = BigChunkSource(coordinates, chunk_size=256, crop_size=64, batch_size=8, resident=2)
    take(source, 2)
    source.close()
    source.close()


def test_a_source_that_is_never_used(coordinates: Dataset) -> None:
    BigChunkSource(coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=2).close()


def test_a_source_that_is_forgotten_ends_its_workers(coordinates: Dataset) -> None:
    """The fixture sees whether a process or the ring's memory is left."""
    take(BigChunkSource(coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=2), 2)


def test_closing_while_the_pipeline_is_still_referenced(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, chunk_size=256, batch_size=8, resident=2) as source:
        pipeline = basic(source)
        pipeline.run()
    del pipeline


ENDS = {
    "break": ("for batch in loader_of(source):\n    break", 0, ""),
    "exception": ("for batch in loader_of(source):\n    raise KeyError('mine')", 1, "KeyError"),
    "sys.exit": ("for batch in loader_of(source):\n    sys.exit(3)", 3, ""),
    "no close": ("batches = iter(loader_of(source)); next(batches)", 0, ""),
    "os._exit": ("next(iter(loader_of(source))); sys.stdout.flush(); os._exit(4)", 4, ""),
}


@pytest.mark.parametrize("manner", ENDS)
@pytest.mark.parametrize("managed", [True, False], ids=["with", "without with"])
def test_the_ways_a_program_ends(
    tmp_path: Path, coordinate_folder: Path, manner: str, managed: bool
) -> None:
    body, expected, words = ENDS[manner]
    head = "with make() as source:\n" if managed else "source = make()\nif True:\n"
    indented = "    print(*workers(), flush=True)\n    " + body.replace("\n", "\n    ")
    code, out, errors = run(tmp_path / "train.py", head + indented, coordinate_folder)
    assert code == expected
    assert words in errors if words else not errors
    pids = [int(pid) for pid in out.split()]
    assert len(pids) == 2
    await_end(pids)


LOOP = """
source = make()
loader = loader_of(source, 10**9)
batches = iter(loader)
next(batches)
print(*workers(), flush=True)
for batch in batches:
    pass
"""


def test_ctrl_c_in_the_loop(tmp_path: Path, coordinate_folder: Path) -> None:
    process = start(tmp_path / "train.py", LOOP, coordinate_folder)
    pids = [int(pid) for pid in line_of(process).split()]
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert code in (130, -signal.SIGINT)
    assert errors.count("KeyboardInterrupt") >= 1
    assert "worker/main.py" not in errors, "a worker wrote to the terminal"
    await_end(pids)


@pytest.mark.parametrize("killing", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_takes_its_workers_along(
    tmp_path: Path, coordinate_folder: Path, killing: signal.Signals
) -> None:
    process = start(tmp_path / "train.py", LOOP, coordinate_folder)
    pids = [int(pid) for pid in line_of(process).split()]
    process.send_signal(killing)
    finish(process)
    await_end(pids)


def test_workers_end_though_a_forked_child_holds_their_channels(
    tmp_path: Path, coordinate_folder: Path
) -> None:
    body = """
source = make()
next(iter(loader_of(source)))
pids = workers()
child = os.fork()
if child == 0:
    time.sleep(600)
    os._exit(0)
print(child, *pids, flush=True)
time.sleep(600)
"""
    process = start(tmp_path / "train.py", body, coordinate_folder)
    child, *pids = (int(pid) for pid in line_of(process).split())
    try:
        process.kill()
        await_end(pids)
    finally:
        os.kill(child, signal.SIGKILL)
        finish(process)


def test_a_forked_child_that_ends_leaves_the_workers_alone(
    tmp_path: Path, coordinate_folder: Path
) -> None:
    body = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of threads and fork
with make() as source:
    batches = iter(loader_of(source))
    next(batches)
    child = os.fork()
    if child == 0:
        source.close()  # as its finalizer would; DALI's own threads do not survive a fork
        os._exit(0)
    os.waitpid(child, 0)
    print("batches", 1 + len(list(batches)))
    print("deaths", source.stats().worker_deaths)
"""
    code, out, errors = run(tmp_path / "train.py", body, coordinate_folder)
    assert (code, out.split("\n")[:2], errors) == (0, ["batches 10", "deaths 0"], "")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_forked_child_that_uses_the_source_is_refused_and_its_parent_goes_on(
    tmp_path: Path, coordinate_folder: Path, workers: int
) -> None:
    body = f"""
import hashlib, warnings
from nvidia.dali.plugin.pytorch import DALIGenericIterator
from pydmed_dali.errors import SourceError
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of threads and fork

def digests(loader):
    return [hashlib.sha256(batch["image"].numpy().tobytes()).hexdigest() for batch in loader]

with make(num_workers={workers}) as source:
    expected = digests(loader_of(source))
with make(num_workers={workers}) as source, make(num_workers={workers}) as unused:
    loader = loader_of(source)
    batches = iter(loader)
    got = [next(batches)]
    info = got[0]["info"]
    waiting = loader_of(unused)
    child = os.fork()
    if child == 0:
        uses = dict(
            batch=lambda: next(batches), loop=lambda: next(iter(loader)),
            fresh=lambda: next(iter(waiting)), state=loader.state_dict,
            load=lambda: waiting.load_state_dict(waiting.state_dict()),
            source_state=lambda: source.state_dict(after=info), stats=source.stats,
            report=source.report, nodes=lambda: basic(source),
            weights=lambda: source.set_weights({{}}, after=info),
            send=lambda: source.send("x", 1, after=info),
            pool=lambda: source._next_images(0), callback=lambda: source._next_batch(0),
            run=lambda: unused._end_run(), load_source=lambda: unused.load_state_dict({{}}),
        )
        refused = 0
        for name, use in uses.items():
            try:
                use()
            except SourceError as error:
                refused += "forked child" in str(error)
            else:
                print("not refused:", name)
        print("refused", refused, "of", len(uses), len(source.describe(info)), flush=True)
        source.close()
        os._exit(0)
    os.waitpid(child, 0)
    print("equal", digests([*got, *batches]) == expected, len(digests(waiting)))
"""
    code, out, errors = run(tmp_path / "train.py", body, coordinate_folder)
    assert (code, errors) == (0, "")
    assert out.splitlines() == ["refused 15 of 15 8", "equal True 10"]


def unused(source: BigChunkSource) -> None:
    pass


def piped(source: BigChunkSource) -> None:
    basic(source).build()


def looped(source: BigChunkSource) -> None:
    for _ in SmallChunkIterator(basic(source), NAMES):
        break


def looped_by_dali(source: BigChunkSource) -> None:
    next(DALIGenericIterator([basic(source)], NAMES, size=-1))


def ended(source: BigChunkSource) -> None:
    with suppress(ZeroDivisionError):
        for _ in SmallChunkIterator(basic(source), NAMES):
            raise ZeroDivisionError


@pytest.mark.parametrize("use", [unused, piped, looped, looped_by_dali, ended])
@pytest.mark.parametrize(
    "more", [{}, {"weights": {}}, {"loader": Walk()}], ids=["plain", "weights", "policy"]
)
def test_a_source_that_is_let_go_ends_its_workers_at_once(
    coordinates: Dataset, use: Callable[[BigChunkSource], None], more: dict[str, Any]
) -> None:
    """Without Python's collector of circles, and with nobody closing it."""
    gc.collect()
    gc.disable()
    try:
        use(BigChunkSource(coordinates, **SMALL_RUN, **more))
        assert not psutil.Process().children()
        assert "memfd:pydmed-dali" not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()


def test_a_pipeline_keeps_its_source(coordinates: Dataset) -> None:
    loader = DALIGenericIterator([basic(BigChunkSource(coordinates, **SMALL_RUN))], NAMES, size=-1)
    gc.collect()
    assert len(list(zip(range(3), loader, strict=False))) == 3
