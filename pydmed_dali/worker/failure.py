"""The answer to a task that failed: what was raised, as an error that crosses to the parent."""

from __future__ import annotations

import traceback

from pydmed_dali.errors import (
    SlideChangedError,
    SlideError,
    SlideFormatError,
    SlideMaskError,
    SlideNotFoundError,
    SlideReadError,
    SlideScaleError,
    UserCodeError,
)
from pydmed_dali.worker.messages import Failed, Task, first_words, last_lines
from pydmed_dali.worker.open_slides import OpenSlides

_OURS = (
    SlideNotFoundError,
    SlideFormatError,
    SlideScaleError,
    SlideMaskError,
    SlideReadError,
    SlideChangedError,
)


def failure(task: Task, error: Exception, opened: bool, slides: OpenSlides) -> Failed:
    """Answer for what was raised, or for the changed file that was the reason of it.

    `opened` tells that the slide could be opened and used. Its slide is closed.
    """
    text = last_lines(traceback.format_exc())
    try:
        slides.check_file(task.path)
    except SlideError as changed:
        error = changed
    except OSError:
        pass  # the file system fails as well: the first error says it
    slides.forget(task.path)
    gone = isinstance(error, SlideChangedError | SlideNotFoundError)
    return Failed(
        task.number, _slide_error(error, task, opened), text, whole_slide=gone or not opened
    )


def _slide_error(error: Exception, task: Task, opened: bool) -> SlideError | UserCodeError:
    """The error as it crosses to the parent: ours as it is, any other in our words."""
    if isinstance(error, UserCodeError):
        return UserCodeError(first_words(str(error)))
    for kind in _OURS:
        if isinstance(error, kind):
            text = str(error)
            named = text if str(task.path) in text else f"{task.path}: {text}"
            return kind(first_words(named))
    if not opened:
        return SlideFormatError(first_words(f"{task.path}: opening it raised {error!r}"))
    return SlideReadError(first_words(f"{task.path}: reading a chunk of it raised {error!r}"))
