"""What was computed of slide files, kept on disk between runs. Deleting it costs only time."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("pydmed_dali.slide")

VARIABLE = "PYDMED_DALI_CACHE"
"""The environment variable that names the folder where no `cache_dir` is given."""

_VERSION = 1
_DIGEST_BYTES = 16
_warned: set[str] = set()


class Cache:
    """Results by their key, one file each; any number of processes may share the folder.

    There are no locks: two processes may compute the same result, and the last one's file stays. A
    file is complete or not there, and carries a checksum: one that was damaged counts as missing.
    Nothing is ever removed (a process that is killed leaves a `.part`); the folder may be deleted
    at any time, also while it is used.
    """

    def __init__(self, folder: Path | None) -> None:
        """Keep results in `folder`; None keeps nothing."""
        self._folder = folder

    @property
    def keeps(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    def get(self, key: str | None) -> bytes | None:
        """What was put under `key`, or None."""
        if self._folder is None or key is None:
            return None
        try:
            data = self._file(self._folder, key).read_bytes()
        except OSError:
            return None
        checksum, data = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return data if checksum == _checksum(data) else None

    def put(self, key: str | None, data: bytes) -> None:
        """Keep `data` under `key`, if that can be: a full disk is no reason to stop."""
        if self._folder is None or key is None:
            return
        target = self._file(self._folder, key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=target.parent, suffix=".part")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_checksum(data) + data)
                os.replace(unfinished, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(unfinished)
                raise
        except OSError as error:
            logger.debug("%s cannot be written: %s", target, error)

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / key[:2] / key


def file_key(path: Path, kind: str, *parts: object) -> str | None:
    """The key of what `kind` computes of a file; None where the file cannot be looked at.

    It changes with the file's absolute path, size and time of change, and with `parts`: whatever
    else the result depends on, as values whose `repr` tells them apart, the version of the code
    among them. Of a slide of several files only the named one is looked at.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    told = (_VERSION, kind, str(path.absolute()), status.st_size, status.st_mtime_ns, parts)
    return hashlib.blake2b(repr(told).encode(errors="surrogateescape"), digest_size=20).hexdigest()


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder to keep results in, made where it is missing; None where none can be written.

    The first that is given of: `cache_dir`, the environment variable PYDMED_DALI_CACHE, and
    `pydmed-dali` in XDG_CACHE_HOME or in ~/.cache. A folder that cannot be written is warned of
    once, and results are then computed anew in every run.
    """
    name = str(cache_dir) if cache_dir is not None else os.environ.get(VARIABLE) or _usual()
    try:
        folder = Path(name).expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home is known
        if name not in _warned:
            _warned.add(name)
            logger.warning(
                "%s cannot be written (%s): what is computed of slides is not kept for the next "
                "run; name another folder by cache_dir or %s",
                name,
                error,
                VARIABLE,
            )
        return None
    return folder


def _usual() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "pydmed-dali")


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
