"""The slides that a process keeps open, and what their files were when they were opened."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from pydmed_dali.slide.file_identity import FileIdentity, check_same_file, file_identity
from pydmed_dali.slide.slide import Slide
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader

_MOST_OPEN = 8  # each holds the file's directory in memory


class OpenSlides:
    """Opens slides by a loader, and keeps the few that were used last."""

    def __init__(self, loader: BigChunkLoader) -> None:
        self._loader = loader
        self._open: OrderedDict[Path, Slide] = OrderedDict()
        self._files: dict[Path, FileIdentity | None] = {}

    def get(self, path: Path) -> Slide:
        """Return the slide at `path`, opened if it is not open; raises what the loader raises."""
        slide = self._open.pop(path, None)
        if slide is None:
            self._files[path] = file_identity(path)
            slide = self._loader.open_slide(path)
        self._open[path] = slide
        while len(self._open) > _MOST_OPEN:
            self.forget(next(iter(self._open)))
        return slide

    def file(self, path: Path) -> FileIdentity | None:
        """Return the file that was opened at `path`; None where there is none to be seen."""
        return self._files.get(path)

    def check_file(self, path: Path) -> None:
        """Raise `SlideChangedError` where another file than the one that was opened is there."""
        check_same_file(path, self.file(path))

    def forget(self, path: Path) -> None:
        """Close a slide, if it can be: after an error it may be in any state."""
        self._files.pop(path, None)
        slide = self._open.pop(path, None)
        if slide is not None:
            with suppress(Exception):
                slide.close()

    def close(self) -> None:
        """Close the slides that are still open."""
        while self._open:
            self.forget(next(iter(self._open)))
