"""What the plan says of one chunk: whom to visit. Workers are told it too."""

from typing import NamedTuple


class Candidate(NamedTuple):
    """One way to fill a chunk of the plan."""

    patient: int
    """Position in `Dataset.patients`."""
    slide: int
    """Position in `Dataset.slides`."""
    turn: int
    """How often the plan visited this slide before: walks over its area."""
    attempt: int
    """0 for the plan itself; above, the location is drawn anew for every attempt."""
    class_number: int = -1
    """The class of annotation that crops are drawn from, 0 for the rest; -1 for any place."""
