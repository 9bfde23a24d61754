"""How much memory this process may still take: the machine's, or less in a container."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that can be taken before the kernel kills: within every enclosing cgroup."""
    import psutil  # here, because workers import this module and never ask

    return min([int(psutil.virtual_memory().available), *_cgroup_rooms()])


def _cgroup_rooms() -> list[int]:
    """What each enclosing control group with a limit leaves, for version 2 and version 1."""
    rooms = []
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = _CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = _CGROUP / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.lstrip("/")
        rooms += [room for f in (folder, *folder.parents) if (room := _room(f, names)) is not None]
    return rooms


def _room(folder: Path, names: tuple[str, str, str]) -> int | None:
    """Limit less usage, where the page cache of files counts as free; None without a limit."""
    limit, usage = _lines(folder / names[0]), _lines(folder / names[1])
    if not limit or not usage or not limit[0].isdecimal():
        return None
    statistics = dict(line.split() for line in _lines(folder / "memory.stat"))
    return int(limit[0]) - int(usage[0]) + int(statistics.get(names[2], 0))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
