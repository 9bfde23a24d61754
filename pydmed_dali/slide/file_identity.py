"""Which file stands at a slide's path: a regular one, and the same one as long as a run goes on."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pydmed_dali.errors import SlideChangedError, SlideFormatError, SlideNotFoundError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells a file from another that takes its place; equal for the same file.

    Of a format of several files it is the one that the path names.

    Equality leaves out where the file lies: on CIFS and FUSE mounts one that nobody has open can
    come back with another inode (and OpenSlide has none open between reads), while ext4 gives the
    inode of a deleted file to the next. Where any of that differs, the sample decides.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last written to, in nanoseconds."""
    sample: bytes
    """A digest of its first bytes, some in the middle, and the last."""
    place: tuple[int, int, int] = field(compare=False)
    """Device, inode, and when the inode was last changed (by a new name, say), in nanoseconds."""

    @property
    def content(self) -> str:
        """Size and sample in words: the same for a copy of the file, wherever and whenever made."""
        return f"{self.size}-{self.sample.hex()}"


def file_identity(path: Path) -> FileIdentity | None:
    """The identity of the file at `path`; None where there is no regular file that can be read, as
    for slides that a loader of the user's own has from elsewhere.
    """
    try:
        found = os.stat(path)
        return _identity(path, found) if stat.S_ISREG(found.st_mode) else None
    except OSError:
        return None


def check_same_file(path: Path, opened: FileIdentity | None) -> None:
    """Raise `SlideChangedError` unless `path` still names the file that was opened.

    `SlideNotFoundError` where it names none any more. `opened` is its identity from just before; a
    slide of which there is none is not watched. Costs one `stat`, and three small reads where the
    file's place is another. What a file system shows late (NFS keeps attributes for seconds) is
    noticed late.
    """
    if opened is None:
        return
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise SlideNotFoundError(
            f"{path}: there is no such file any more; it was deleted or moved after it was opened"
        ) from None
    now = (found.st_size, found.st_mtime_ns, _place(found))
    if now == (opened.size, opened.mtime_ns, opened.place):
        return
    if not stat.S_ISREG(found.st_mode) or _identity(path, found) != opened:
        raise SlideChangedError(change_in_words(path))


def change_in_words(path: Path) -> str:
    """What `SlideChangedError` says."""
    return (
        f"{path}: another file stands there than when the run first read it, or it was written to; "
        "a slide must not change while a source reads it: make a new source to read the new one"
    )


def check_regular_file(path: Path) -> None:
    """Raise unless `path` names a regular file: opening a named pipe would block for ever.

    `SlideNotFoundError` where there is nothing, `SlideFormatError` for anything else.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SlideNotFoundError(f"{path}: there is no such file") from None
    except OSError as error:
        raise SlideFormatError(f"{path}: it cannot be looked at ({error})") from error
    if not stat.S_ISREG(mode):
        kind = next((words for applies, words in _KINDS if applies(mode)), "no regular file")
        raise SlideFormatError(f"{path}: it is {kind}; a slide must be a regular file")


def _identity(path: Path, found: os.stat_result) -> FileIdentity:
    size, digest = found.st_size, hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        for place in (0, size // 2, max(size - _SAMPLE_BYTES, 0)):
            file.seek(place)
            digest.update(file.read(_SAMPLE_BYTES))
    return FileIdentity(size, found.st_mtime_ns, digest.digest(), _place(found))


def _place(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_ctime_ns
