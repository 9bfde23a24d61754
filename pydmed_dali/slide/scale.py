"""At which resolution slides are read, and which view of each slide that is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from pydmed_dali.errors import SlideScaleError
from pydmed_dali.slide.slide import SlideFacts
from pydmed_dali.slide.view import View, choose_view, view_at

_POWER_TIMES_MPP = 10.0
"""Of most scanners: an objective of 40x gives 0.25 micrometres per pixel, one of 20x gives 0.5."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a source was asked for: one of level, mpp and magnification; none of them is level 0."""

    level: int | None = None
    """The level to read."""
    mpp: float | None = None
    """Micrometres per pixel to read at."""
    magnification: float | None = None
    """Magnification to read at; see `objective_power`."""
    default_mpp: float | None = None
    """Micrometres per level-0 pixel of slides that do not tell theirs; None leaves it unknown."""
    mpp_override: float | None = None
    """Micrometres per level-0 pixel of every slide, whatever its file tells; None believes it."""

    def facts(self, facts: SlideFacts) -> SlideFacts:
        """A slide's facts with the resolution that counts: the override, the file's, the default.

        Not to be given to a `Slide`: they are for views of it and for its tissue mask.
        """
        default = self.default_mpp if facts.mpp is None else None
        mpp = default if self.mpp_override is None else self.mpp_override
        return facts if mpp is None else replace(facts, mpp=(mpp, mpp))

    def remark(self, facts: SlideFacts, view: View) -> str | None:
        """What a user is told of a resolution that is not the file's; None where it is."""
        if self.mpp_override is None and (facts.mpp is not None or self.default_mpp is None):
            return None
        reason = "the file does not tell its micrometres per pixel"
        if facts.mpp is not None:
            told = f"{facts.mpp[0]:.4g} x {facts.mpp[1]:.4g}"
            reason = f"the file tells {told} micrometres per pixel, which are not used"
        option = (
            f"mpp_override={self.mpp_override:g}"
            if self.mpp_override is not None
            else (f"default_mpp={self.default_mpp:g}")
        )
        assert view.mpp is not None
        return f"{reason}; by {option} its crops are taken to have {view.mpp[0]:.4g}"

    def view(self, facts: SlideFacts, path: Path) -> View:
        """The view of the slide at `path`. Raises `SlideScaleError` where it has no such one."""
        facts = self.facts(facts)
        if self.magnification is None:
            return choose_view(facts, path, self.level, self.mpp)
        return _magnified(facts, path, self.magnification)


def objective_power(facts: SlideFacts) -> float | None:
    """The magnification of level 0: what the file says of the objective, else 10 / mpp.

    Level n then has this over its downsample. The relation of 10 is a convention: scanners of one
    objective power differ by a tenth and more in micrometres per pixel. None where the file tells
    neither.
    """
    if facts.objective_power is not None:
        return facts.objective_power
    if facts.mpp is None:
        return None
    return _POWER_TIMES_MPP / math.sqrt(facts.mpp[0] * facts.mpp[1])


def _magnified(facts: SlideFacts, path: Path, magnification: float) -> View:
    power = objective_power(facts)
    if power is None:
        raise SlideScaleError(
            f"{path}: magnification={magnification:g} was asked for, but the file tells neither "
            "its objective power nor its micrometres per pixel; give default_mpp, or ask for "
            f"level=0..{len(facts.level_downsamples) - 1} instead"
        )
    target = (power / magnification, power / magnification)
    if facts.objective_power is None and facts.mpp is not None:
        wanted = _POWER_TIMES_MPP / magnification
        target = (wanted / facts.mpp[0], wanted / facts.mpp[1])
    has = f"{power:.4g}x; ask for magnification <= {power:.4g}"
    return view_at(facts, path, target, f"magnification={magnification:g}", has)
