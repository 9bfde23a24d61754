"""Which of several processes this one is, where nobody says."""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import Any, NamedTuple

from pydmed_dali.errors import OptionError, SourceError

logger = logging.getLogger("pydmed_dali.source")

_LAUNCHERS = (
    ("torchrun or its like", "RANK", "WORLD_SIZE"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI", "PMI_RANK", "PMI_SIZE"),
    # srun alone sets this size: a batch script runs once, though it has SLURM_NTASKS.
    ("Slurm's srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
"""Who sets which variables, the innermost first: mpirun and torchrun are started by srun, too."""

_GIVEN, _ALONE, _TORCH = "given", "found nowhere: one process", "torch.distributed"


class Ranks(NamedTuple):
    """A process among those that share a dataset, and how that is known."""

    rank: int
    """0 to `world_size` - 1."""
    world_size: int
    """How many processes there are."""
    origin: str
    """In words, for a report."""

    @property
    def is_given(self) -> bool:
        """Whether the user said so."""
        return self.origin == _GIVEN

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world_size} ({self.origin})"

    def refuse_change(self) -> None:
        """Raise `SourceError` where torch.distributed, initialised since, says otherwise."""
        now = None if self.is_given else _of_torch()
        if now is not None and now[:2] != self[:2]:
            raise SourceError(
                f"the source was made before torch.distributed was initialised, as {self}, and now "
                f"this process is rank {now.rank} of {now.world_size}: every rank would get the "
                "crops of another; make the source after init_process_group (in Lightning in the "
                "hook `setup`), or give it rank and world_size"
            )


def choose_rank(rank: int | None, world_size: int | None) -> Ranks:
    """Find out which of several processes this one is.

    Nothing is asked of the other processes, and nothing is imported: what torch.distributed says
    counts only where somebody has initialised it.

    Args:
        rank: as the user gave it; None to find both out.
        world_size: as the user gave it; None to find both out.

    Returns:
        What was given, else what torch.distributed says where it is initialised, else what the
        launcher says in the environment (torchrun and Ray Train, Open MPI, PMI, or a Slurm job step
        of several tasks), else 0 of 1. A rank among several that was found is logged once.

    Raises:
        OptionError: only one is given, or there is no such rank.
    """
    if rank is None and world_size is None:
        found = _of_torch() or _of_environment()
        if found.world_size > 1:
            _say(
                f"this process is {found}; give rank=0, world_size=1 where it shares with no other"
            )
        return found
    if rank is None or world_size is None:
        raise OptionError(
            f"rank={rank} and world_size={world_size}: give both, or none to have them found out"
        )
    return _checked(Ranks(rank, world_size, _GIVEN))


def warn_of_copies(ranks: Ranks) -> None:
    """Say once that each of several processes gets all tiles of its source."""
    if not ranks.is_given and ranks.world_size > 1:
        _warn(
            f"{ranks}: a TileSource shares no slides out, so each of these processes gets every "
            "tile of its dataset; predict and segment share them out. Give rank and world_size "
            "where each process has slides of its own"
        )


def _of_torch() -> Ranks | None:
    """What torch.distributed says; None where nobody has imported or initialised it."""
    dist: Any = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    return Ranks(dist.get_rank(), dist.get_world_size(), _TORCH)


def _of_environment() -> Ranks:
    for launcher, *names in _LAUNCHERS:
        rank, size = map(os.environ.get, names)
        if rank is None or size is None:
            continue
        named = f"{names[0]}={rank!r} and {names[1]}={size!r}"
        try:
            return _checked(Ranks(int(rank), int(size), f"{launcher}: {named}"))
        except ValueError as error:
            raise OptionError(
                f"the environment has {named}, which are no rank and number of processes; give "
                "rank and world_size (0 and 1 for a process by itself), or unset them"
            ) from error
    return Ranks(0, 1, _ALONE)


def _checked(ranks: Ranks) -> Ranks:
    for name, least in (("rank", 0), ("world_size", 1)):
        value = getattr(ranks, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise OptionError(f"{name} must be an int of at least {least}, not {value!r}")
    if ranks.rank >= ranks.world_size:
        raise OptionError(
            f"rank={ranks.rank} does not exist among world_size={ranks.world_size}; ranks are "
            f"0..{ranks.world_size - 1}"
        )
    return ranks


@functools.cache
def _say(message: str) -> None:
    logger.info("%s", message)


@functools.cache
def _warn(message: str) -> None:
    logger.warning("%s", message)
