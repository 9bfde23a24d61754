"""One worker process, seen from the parent: starting it, its channel, and how it ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress

from pydmed_dali.worker.messages import Reconfigure, Task, send

_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
}


class WorkerProcess:
    """A running worker and the jobs it was given, in the order in which it takes them."""

    def __init__(self, number: int, setup: int, arena: int | None) -> None:
        self.number = number
        self.jobs: deque[Task] = deque()
        self.pieces: list[bytes] = []
        """Of the answer that comes next."""
        self.ready = False
        """Whether it said hello."""
        self.since = time.monotonic()
        """When it began with what it does now: its start, or its present job."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = (theirs.fileno(), *_given(setup, arena))
            # -P: the import path is the parent's; a folder that it does not search is not added
            module = "pydmed_dali.worker.main"
            command = [sys.executable, "-P", "-m", module, *map(str, descriptors)]
            # A process group of its own keeps the terminal's Ctrl-C away from the very start.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=descriptors,
                process_group=0,
            )
        self.pidfd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def give(self, job: Task) -> None:
        """Queue a job. A worker that is already gone is noticed by its descriptor, not here."""
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs.append(job)
        with suppress(OSError):
            send(self.channel, job)

    def reconfigure(self, setup: int, arena: int | None) -> None:
        """Switch a worker without a task to another setup and arena. See `give`."""
        assert not self.jobs
        with suppress(OSError):
            send(self.channel, Reconfigure(), _given(setup, arena))

    def kill(self, seconds: float = 5.0) -> bool:
        """End the process now; whether it has ended, and so writes nowhere any more.

        A read from a file server that does not answer can put off even SIGKILL.
        """
        self._process.kill()
        return self.wait(seconds)

    def wait(self, seconds: float) -> bool:
        """Whether the process ends by itself within `seconds`."""
        try:
            self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def hang_up(self) -> None:
        """End the channel for whoever holds an end of it, also a forked child of the user's."""
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()

    def release(self) -> None:
        """Close the descriptors of a process that has ended."""
        self.channel.close()
        os.close(self.pidfd)

    def ending(self) -> str:
        """How it ended, in words: the signal's name or the exit code."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (the kernel kills so when memory runs out)" if name == "SIGKILL" else ""
            return f"was killed by {name}{hint}"
        return f"ended with exit code {code}"

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"


def _given(setup: int, arena: int | None) -> tuple[int, ...]:
    """The descriptors of a worker's work: its setup, and its arena if it loads chunks."""
    return (setup,) if arena is None else (setup, arena)


def _environment() -> dict[str, str]:
    """The parent's environment, with its import path, and one thread per worker."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, **_ONE_THREAD, "PYTHONPATH": path}
