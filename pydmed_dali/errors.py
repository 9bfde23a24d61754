"""Every error that pydmed-dali raises on purpose.

All derive from `PydmedError`; each also derives from the builtin that fits it, so that code written
against the builtin keeps working.

    PydmedError
    ├── OptionError (ValueError)              an option of a source or command is out of its range
    ├── DatasetError (ValueError)             a dataset that cannot be used: empty, labels missing
    │   └── NoTilesError                      none of its slides has a tile to deal
    ├── AnnotationError (ValueError)          an annotation file that cannot be used, or of no use
    ├── StateError (ValueError)               a saved state belongs to another run
    ├── SlideError (OSError)                  one slide, or one region of it, cannot be delivered
    │   ├── SlideNotFoundError (FileNotFoundError)
    │   ├── SlideFormatError (ValueError)     exists, but no reader opens it
    │   ├── SlideScaleError (ValueError)      has no such level, no mpp, or no mpp that fine
    │   ├── SlideMaskError (ValueError)       its tissue mask cannot be used, or leaves nothing
    │   ├── SlideReadError                    opened, but a region cannot be read
    │   └── SlideChangedError                 became another file while a run goes on
    ├── UserCodeError (RuntimeError)           a loader or model of the user's own breaks its rules
    ├── ResultError (OSError)                 results of a model cannot be written
    ├── RingMemoryError (MemoryError)         the ring does not fit the memory that is free
    ├── WorkerError (RuntimeError)            the loader processes cannot go on
    │   └── WorkerTimeoutError (TimeoutError) a loader process did not answer in time
    └── SourceError (RuntimeError)            a source is used against its rules
        └── SourceClosedError                 ... after it was closed

An error from a slide can cross from a worker to the parent, so these classes take their message as
the only argument (which pickles as it is).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class PydmedError(Exception):
    """Base of every error raised on purpose by this package."""

    ag_pass_through = True
    """Has DALI leave the error as it is: in a pipeline with conditionals it would otherwise raise a
    StagingError of its own instead, which no `except` of ours or the user's knows."""


class OptionError(PydmedError, ValueError):
    """An option is out of its range; the message says which range and what was given."""


class DatasetError(PydmedError, ValueError):
    """A dataset cannot be used as it is, e.g. a folder without slides or slides without a label."""


class NoTilesError(DatasetError):
    """None of the slides that a `TileSource` is to deal can be read and has a tile that is wanted.

    `slides_skipped` has the reason of each, by the slide's path; a rank that got no slides has
    none of them.
    """

    slides_skipped: dict[Path, str]

    def __init__(self, message: str, slides_skipped: dict[Path, str] | None = None) -> None:
        super().__init__(message)
        self.slides_skipped = slides_skipped or {}

    @classmethod
    def of(cls, slides_skipped: dict[Path, str]) -> NoTilesError:
        """The error for slides that were all skipped."""
        reasons = "\n  ".join(list(slides_skipped.values())[:5])
        return cls(
            f"none of {len(slides_skipped)} slides can be read and has a tile that is wanted:\n  "
            f"{reasons}",
            slides_skipped,
        )


class AnnotationError(PydmedError, ValueError):
    """An annotation file cannot be read, holds nothing, or does not belong to the slide."""


class StateError(PydmedError, ValueError):
    """A saved state does not belong to this source; the message lists what differs."""


class SlideError(PydmedError, OSError):
    """A slide, or a region of it, cannot be delivered."""


class SlideNotFoundError(SlideError, FileNotFoundError):
    """There is no file at the slide's path."""


class SlideFormatError(SlideError, ValueError):
    """The file exists, but no reader can open it as a slide."""


class SlideScaleError(SlideError, ValueError):
    """The slide does not have the level or the resolution that was asked for."""


class SlideMaskError(SlideError, ValueError):
    """The slide's tissue mask cannot be used, or leaves no place with enough tissue for a crop."""


class SlideReadError(SlideError):
    """The slide opened, but reading one of its regions failed."""


class SlideChangedError(SlideError):
    """Another file stands at the slide's path than when the run first read it."""


class UserCodeError(PydmedError, RuntimeError):
    """User code (a `BigChunkLoader` or a model) raised, or returned an invalid value."""


class ResultError(PydmedError, OSError):
    """Results of a model cannot be written; the message says what is finished and stays."""


class RingMemoryError(PydmedError, MemoryError):
    """The ring needs more memory than is free; the message says which options to lower."""


class WorkerError(PydmedError, RuntimeError):
    """The loader processes cannot go on; the message names the worker, its end and its slide."""


class WorkerTimeoutError(WorkerError, TimeoutError):
    """A loader process did not start, or did not stop, within its deadline."""


class SourceError(PydmedError, RuntimeError):
    """A source was used against its rules, e.g. bound to two pipelines."""


class SourceClosedError(SourceError):
    """The source was closed and cannot deliver any more."""
