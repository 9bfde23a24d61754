"""What went wrong while a source ran, for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydmed_dali.text import shorten_list


@dataclass(frozen=True, slots=True)
class Death:
    """A loader process that ended without being told to."""

    worker: str
    """Its number and process id."""
    ending: str
    """The signal or exit code, in words."""
    path: str | None
    """The slide it was reading, None while it started or had nothing to do."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was replaced or left out; printing it gives one line each."""

    slides_skipped: dict[Path, str]
    """Slides that are not tried any more, with the reason: they cannot be opened, changed while the
    run went on, or killed two loader processes."""
    regions_failed: dict[Path, str]
    """Slides of which some region could not be read, with the first reason."""
    chunks_substituted: int
    """BigChunks that stood in for one that could not be read."""
    deaths: tuple[Death, ...]
    """Loader processes that were replaced, in order."""
    rank: int = 0
    """This process among those that share the dataset; 0 to `world_size` - 1."""
    world_size: int = 1
    """How many processes share it."""
    rank_origin: str = "given"
    """How both are known: given, or where they were found."""
    slides_left_out: tuple[Path, ...] = ()
    """Slides that no visit of a finite source's run is planned for, on any rank."""

    def __str__(self) -> str:
        lines = []
        if self.world_size > 1:
            lines = [f"rank {self.rank} of {self.world_size} ({self.rank_origin})"]
        lines += [f"skipped: {reason}" for reason in self.slides_skipped.values()]
        lines += [f"failed in places: {reason}" for reason in self.regions_failed.values()]
        if self.slides_left_out:
            count = len(self.slides_left_out)
            lines.append(f"{count} slides are never visited: {shorten_list(self.slides_left_out)}")
        lines += [f"{d.worker} {d.ending}" + f" ({d.path})" * bool(d.path) for d in self.deaths]
        if len(lines) == (self.world_size > 1):
            lines.append("nothing went wrong")
        return "\n".join(lines)
