"""The main program of a loader process: `python -m pydmed_dali.worker.main CHANNEL SETUP [ARENA]`.

The arguments are descriptors: the channel to the parent, a file that holds the pickled `Setup`, and
the memory of the arena, where chunks are loaded. A worker imports neither DALI nor torch
nor CuPy, and ends by itself when its parent is gone or closes the channel.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from pydmed_dali.ring.arena import Arena
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.chunk_runner import ChunkRunner
from pydmed_dali.worker.messages import (
    Hello,
    LoadChunk,
    Reconfigure,
    Setup,
    Started,
    SurveySlide,
    messages_of,
    receive_all,
    send,
)
from pydmed_dali.worker.read_plan import ReadPlan, SurveyPlan
from pydmed_dali.worker.survey_runner import SurveyRunner


def main(arguments: list[str]) -> None:
    """Serve tasks until the channel ends."""
    channel_descriptor, setup_descriptor, *arena = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    faulthandler.enable()
    setup = _read(setup_descriptor)
    _end_with(setup.parent)
    loader: BigChunkLoader = pickle.loads(setup.loader)
    runner = _runner(setup.plan, loader, arena)
    with socket.socket(fileno=channel_descriptor) as channel, suppress(ConnectionError):
        send(channel, Hello())
        while True:
            message, descriptors = receive_all(channel)
            if message is None:
                break
            if isinstance(message, Reconfigure):
                setup_descriptor, *arena = descriptors
                runner.close()
                runner = _runner(_read(setup_descriptor).plan, loader, arena)
            else:
                assert isinstance(message, LoadChunk | SurveySlide)
                send(channel, Started(message.number, time.monotonic()))
                for answer in messages_of(runner.run(message)):  # type: ignore[arg-type]
                    send(channel, answer)
    runner.close()


def _read(descriptor: int) -> Setup:
    """The setup in a file, which is closed."""
    # pread, because all workers share this descriptor's position
    setup: Setup = pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    os.close(descriptor)
    return setup


def _runner(
    plan: ReadPlan | SurveyPlan, loader: BigChunkLoader, arena: Sequence[int]
) -> ChunkRunner | SurveyRunner:
    """What does a plan's tasks; the arena's descriptor is closed: its mapping stays."""
    if isinstance(plan, SurveyPlan):
        return SurveyRunner(plan, loader)
    (descriptor,) = arena
    memory = Arena(plan.layout, descriptor)
    os.close(descriptor)
    return ChunkRunner(plan, loader, memory)


def _end_with(parent: int) -> None:
    """End this process as soon as `parent` is gone, whatever it is doing then.

    A watched descriptor of the process, because the channel's end is not enough: a child that the
    user's program forked keeps the other end open. A thread, because a read can hang for ever.
    """
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=watch, name="pydmed-dali-parent-watch", daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
