"""A stand-in for a file server that stops answering: whoever opens the file waits in the kernel.

A lease on a file (fcntl(2), F_SETLEASE) blocks every other process that opens it until the holder
gives the lease back. The holder is this module's program, told of an opening by SIGIO.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NO_LEASES = 77


@contextmanager
def silent_server(path: Path, seconds: float) -> Iterator[None]:
    """Whoever opens `path` inside the block waits `seconds`; all openings after that succeed."""
    command = [sys.executable, __file__, str(path), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        ready = server.stdout.readline()
        if not ready and server.wait() == _NO_LEASES:
            pytest.skip(f"the file system of {path} has no leases")
        assert ready == b"silent\n"
        try:
            yield
        finally:
            server.stdin.close()


def _serve(path: str, seconds: float) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        sys.exit(_NO_LEASES)
    print("silent", flush=True)
    while not signal.sigtimedwait({signal.SIGIO}, 0.01):
        if select.select([sys.stdin], [], [], 0)[0]:
            return
    select.select([sys.stdin], [], [], seconds)  # its end: the test is over


if __name__ == "__main__":
    _serve(sys.argv[1], float(sys.argv[2]))
