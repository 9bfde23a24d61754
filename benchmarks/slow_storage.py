"""A disk made slow: the kernel's own limits, by control groups of version 1, which root can set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup/blkio")


@dataclass(frozen=True, slots=True)
class Speed:
    """What a storage can do."""

    name: str
    megabytes: float
    """MB (10^6) per second."""
    requests: int
    """Read requests per second."""


class SlowDisk:
    """The disk of a folder, slow for those who are started by `command`."""

    def __init__(self, group: Path, device: str) -> None:
        self._group, self._device = group, device

    def command(self) -> list[str]:
        """Comes before a program's own command line."""
        return ["sh", "-c", f'echo $$ > {self._group}/tasks && exec "$@"', "sh"]

    def used(self) -> tuple[int, int]:
        """(bytes, requests) that were read so far."""
        return self._count("io_service_bytes"), self._count("io_serviced")

    def _count(self, name: str) -> int:
        for line in (self._group / f"blkio.throttle.{name}").read_text().splitlines():
            words = line.split()
            if words[:2] == [self._device, "Read"]:
                return int(words[2])
        return 0


@contextmanager
def slow_disk(folder: Path, speed: Speed) -> Iterator[SlowDisk]:
    """The disk on which `folder` lies, no faster than `speed`.

    Raises SystemExit where this machine does not let it be limited.
    """
    group, device = _GROUPS / f"pydmed-dali-{os.getpid()}", _disk_of(folder)
    try:
        group.mkdir()
    except OSError as error:
        raise SystemExit(
            f"the disk cannot be made slow ({error}): that needs root, and control groups of "
            f"version 1 with {_GROUPS}"
        ) from error
    try:
        for name, limit in (("bps", round(speed.megabytes * 1e6)), ("iops", speed.requests)):
            (group / f"blkio.throttle.read_{name}_device").write_text(f"{device} {limit}")
        with _usual_read_ahead(device):
            yield SlowDisk(group, device)
    finally:
        group.rmdir()


def forget_files(folder: Path) -> None:
    """Have the kernel drop what it keeps in memory of the files below `folder`."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    Path("/proc/sys/vm/drop_caches").write_text("2")  # names and places of files


@contextmanager
def _usual_read_ahead(device: str) -> Iterator[None]:
    """What Linux has disks read ahead by default: who reads here and there suffers from more."""
    setting = Path(f"/sys/dev/block/{device}/queue/read_ahead_kb")
    before = setting.read_text()
    setting.write_text("128")
    try:
        yield
    finally:
        setting.write_text(before)


def _disk_of(folder: Path) -> str:
    """MAJOR:MINOR of the whole disk, of which limits can be set."""
    number = folder.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if (place / "partition").exists():
        place = place.parent
    return (place / "dev").read_text().strip()
