"""What a process had of memory at most. Apart from the tests, so that a process imports little."""

from __future__ import annotations

import re
from pathlib import Path


def memory(process: int | str = "self") -> dict[str, int]:
    """The most bytes that it ever had reserved (VmPeak) and in memory (VmHWM)."""
    status = Path(f"/proc/{process}/status").read_text()
    found = dict(re.findall(r"(VmPeak|VmHWM):\s+(\d+) kB", status))
    return {name: int(kilobytes) * 1024 for name, kilobytes in found.items()}
