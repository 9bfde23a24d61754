"""The main program of a loader process: `python -m pydmed_dali.worker.main CHANNEL ARENA SETUP`.

The three arguments are descriptors: the channel to the parent, the arena's memory, and a file that
holds the pickled `Setup`. A worker imports neither DALI nor torch nor CuPy, and ends by itself when
its parent is gone or closes the channel.
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
from contextlib import suppress

from pydmed_dali.ring.arena import Arena
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.job_runner import JobRunner
from pydmed_dali.worker.messages import (
    Hello,
    Job,
    Reconfigure,
    Setup,
    Started,
    messages_of,
    receive_all,
    send,
)


def main(arguments: list[str]) -> None:
    """Serve jobs until the channel ends."""
    channel_descriptor, arena_descriptor, setup_descriptor = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    faulthandler.enable()
    setup = _read(setup_descriptor)
    _end_with(setup.parent)
    loader: BigChunkLoader = pickle.loads(setup.loader)
    filler = JobRunner(setup.plan, loader, _arena(setup, arena_descriptor))
    with socket.socket(fileno=channel_descriptor) as channel, suppress(ConnectionError):
        send(channel, Hello())
        while True:
            message, descriptors = receive_all(channel)
            if message is None:
                break
            if isinstance(message, Reconfigure):
                arena_descriptor, setup_descriptor = descriptors
                filler.close()
                setup = _read(setup_descriptor)
                filler = JobRunner(setup.plan, loader, _arena(setup, arena_descriptor))
            else:
                assert isinstance(message, Job)
                _carry_out(message, filler, channel)
    filler.close()


def _read(descriptor: int) -> Setup:
    """The setup in a file, which is closed."""
    # pread, because all workers share this descriptor's position
    setup: Setup = pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    os.close(descriptor)
    return setup


def _arena(setup: Setup, descriptor: int) -> Arena:
    """The arena, whose descriptor is closed: the mapping stays."""
    arena = Arena(setup.plan.layout, descriptor)
    os.close(descriptor)
    return arena


def _carry_out(job: Job, filler: JobRunner, channel: socket.socket) -> None:
    """Do a job, and answer; raises `ConnectionError` where the parent closed the source."""
    send(channel, Started(job.chunk, time.monotonic()))
    for message in messages_of(filler.fill(job)):
        send(channel, message)


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
