"""Reading annotation files in processes of their own, seen from the one that asks for them."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from pydmed_dali.errors import AnnotationError
from pydmed_dali.machine import core_count
from pydmed_dali.slide.cache import Cache
from pydmed_dali.worker.annotation_cache import find_kept, read_and_keep
from pydmed_dali.worker.annotation_plan import AnnotationFile, ReadingRules

Answer = AnnotationFile | AnnotationError

_MOST_PROCESSES = 8  # each can take a few GB of memory
_LEAST_BYTES = 2**21  # of files for which processes start: less is read before they would be there
_SECONDS_A_FILE = 600.0  # of the largest file, 20 s are usual
_SECONDS_A_LINE = 10.0  # of the log

logger = logging.getLogger("pydmed_dali.pool")


def read_files(
    paths: Sequence[Path], rules: ReadingRules, folder: Path | None
) -> dict[Path, Answer]:
    """What each file holds, or why it cannot be used. Files that were read before are not again.

    Large files are read by processes of their own, as many as there are cores, at most 8; what they
    hold is kept in the cache `folder`. Every 10 s a line of the log tells how far that is.
    """
    cache = Cache(folder)
    known = {path: _attempt(find_kept, path, rules, cache) for path in paths}
    answers = {path: answer for path, answer in known.items() if answer is not None}
    left = [path for path in known if path not in answers]
    if not left or sum(map(_size, left)) < _LEAST_BYTES:
        with ThreadPoolExecutor() as threads:
            found = threads.map(lambda path: _attempt(read_and_keep, path, rules, cache), left)
            return answers | {p: a for p, a in zip(left, found, strict=True) if a is not None}
    return answers | _read_by_processes(left, rules, folder, _Progress(len(known), len(answers)))


def _read_by_processes(
    paths: Sequence[Path], rules: ReadingRules, folder: Path | None, progress: _Progress
) -> dict[Path, Answer]:
    queue = SimpleQueue[Path]()
    for path in sorted(paths, key=_size, reverse=True):
        queue.put(path)
    processes = min(core_count(), _MOST_PROCESSES, len(paths))
    answers: dict[Path, Answer] = {}
    with ThreadPoolExecutor(processes) as threads:
        shares = [
            threads.submit(_read_share, queue, rules, folder, progress) for _ in range(processes)
        ]
        try:
            for share in shares:
                answers |= share.result()
        finally:
            progress.is_over = True
    return answers


def _attempt(
    read: Callable[[Path, ReadingRules, Cache], AnnotationFile | None],
    path: Path,
    rules: ReadingRules,
    cache: Cache,
) -> Answer | None:
    try:
        return read(path, rules, cache)
    except AnnotationError as error:
        return error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_share(
    queue: SimpleQueue[Path], rules: ReadingRules, folder: Path | None, progress: _Progress
) -> dict[Path, Answer]:
    """Have one process read files for as long as there are some; a new one where it ends."""
    answers: dict[Path, Answer] = {}
    process = None
    try:
        while not progress.is_over:
            try:
                path = queue.get_nowait()
            except Empty:
                return answers
            process = process or _Parser(rules, folder)
            answers[path] = process.read(path, progress)
            if process.has_ended:
                process.close()
                process = None
            progress.note()
        return answers
    finally:
        if process is not None:
            process.close()


class _Progress:
    """How many files are read; tells it in the log, where that takes long."""

    def __init__(self, files: int, done: int) -> None:
        self._files, self._done, self._feedback = files, done, time.monotonic()
        self.is_over = False
        """Whether nobody waits for the files any more."""

    def note(self) -> None:
        """One more file is read."""
        self._done += 1

    def tell(self, path: Path) -> None:
        """A file is being read."""
        if time.monotonic() - self._feedback > _SECONDS_A_LINE:
            self._feedback = time.monotonic()
            logger.warning(
                "annotations: %d of %d files are read, now among others %s (%.0f MB); they are "
                "kept for the next run",
                *(self._done, self._files, path, _size(path) / 1e6),
            )


class _Parser:
    """A process that reads files, one after the other."""

    def __init__(self, rules: ReadingRules, folder: Path | None) -> None:
        arguments = (str(folder or ""), json.dumps(rules.exclusions), str(rules.max_bytes))
        module = "pydmed_dali.worker.annotation_parser"
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,  # keeps the terminal's Ctrl-C away
        )
        self._answers = bytearray()

    @property
    def has_ended(self) -> bool:
        """Whether it can read no more."""
        return self._process.poll() is not None

    def read(self, path: Path, progress: _Progress) -> Answer:
        """What a file holds, or why it cannot be used: it took too long, or ended the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(str(path)).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(path, progress)
        except OSError:
            line = b""
        if not line:
            return AnnotationError(f"{path}: {self._ending()}")
        answer: Mapping[str, str] = json.loads(line)
        if "error" in answer:
            return AnnotationError(answer["error"])
        file = json.loads(line)["file"]
        return AnnotationFile(**{**file, "path": path, "warnings": tuple(file["warnings"])})

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with suppress(OSError):  # of a line that it never took
            self._process.stdin.close()

    def _line(self, path: Path, progress: _Progress) -> bytes:
        """The next line that it writes; empty where it ended or took too long."""
        assert self._process.stdout is not None
        until = time.monotonic() + _SECONDS_A_FILE
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._answers:
            if time.monotonic() > until or progress.is_over:
                return b""
            progress.tell(path)
            if select.select([descriptor], [], [], 1.0)[0]:
                read = os.read(descriptor, 1 << 16)
                if not read:
                    return b""
                self._answers += read
        line, _, rest = bytes(self._answers).partition(b"\n")
        self._answers = bytearray(rest)
        return line

    def _ending(self) -> str:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"it was not read within {_SECONDS_A_FILE:.0f} s; it holds too much, or is wrong"
        hint = " (the kernel kills so when memory runs out)" if code == -9 else ""
        return f"the process that read it ended with code {code}{hint}"
