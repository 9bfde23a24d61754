"""One line of what `pydmed-dali doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """`failed` is needed and broken; `warning` is worth knowing; `skipped` could not be tried."""
    found: str
    remedy: str | None = None
    """What to do, for what is broken."""
