"""Which of several processes this one is, where nobody says."""

from __future__ import annotations

import os

from pydmed_dali.errors import OptionError


def choose_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world_size) as given, else those of torch.distributed where it is initialised, else
    those of the environment (RANK and WORLD_SIZE, as torchrun sets them), else (0, 1).

    Nothing is asked of the other processes. Raises `OptionError` where only one is given, and for a
    rank that does not exist.
    """
    found = _found(rank, world_size)
    if not 0 <= found[0] < found[1]:
        raise OptionError(
            f"rank={found[0]} does not exist among world_size={found[1]}; ranks are numbered from 0"
        )
    return found


def _found(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise OptionError(
            f"rank={rank} and world_size={world_size}: give both, or none to have them found out"
        )
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return _of_environment()


def _of_environment() -> tuple[int, int]:
    told = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if told[0] is None or told[1] is None:
        return 0, 1
    try:
        return int(told[0]), int(told[1])
    except ValueError as error:
        raise OptionError(
            f"the environment has RANK={told[0]!r} and WORLD_SIZE={told[1]!r}, which are no "
            "numbers; give rank and world_size"
        ) from error
