"""What was chosen where slides are read, said once in the process that a user sees."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger("pydmed_dali.pool")


class Notices:
    """Logs each notice once, with the first slide that it is of."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, slide: Path, notices: Iterable[str]) -> None:
        """Log those that were not said before; they name no slide."""
        for notice in notices:
            if notice not in self._said:
                self._said.add(notice)
                logger.warning("%s: %s (said once, though it may be so of others)", slide, notice)
