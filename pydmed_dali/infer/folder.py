"""The folder of results: one file a slide, complete or not there, and what run made them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydmed_dali.errors import OptionError, ResultError
from pydmed_dali.wording import some

_RUN = "run.json"
_PART = ".part"
_LEFT_SECONDS = 3600.0  # after which nobody writes a file any more that was last touched then


class ResultFolder:
    """Holds `NAME` with a suffix for every slide `NAME.*` that is finished, and `run.json`.

    Raises `OptionError` where it holds another run's results, saying all that differs, and where
    two slides would have the same file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        suffix: str,
        run: Mapping[str, Any],
        slides: Sequence[Path],
    ) -> None:
        """`run` is of JSON's kinds: what results follow from beside the slide."""
        self._folder, self._suffix = Path(folder), suffix
        self._refuse_same_names(slides)
        self._refuse_other_run(run)
        self._folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(run, indent=2, sort_keys=True) + "\n"
        _replace(self._folder / _RUN, lambda path: path.write_text(text))

    @property
    def folder(self) -> Path:
        """The folder."""
        return self._folder

    def file(self, slide: Path) -> Path:
        """Where the results of a slide are, once it is finished."""
        return self._folder / f"{slide.stem}{self._suffix}"

    def write(self, slide: Path, write: Callable[[Path], object]) -> Path:
        """Have `write` make the file of a finished slide, which is there only when it is complete.

        Raises `ResultError` where that cannot be done.
        """
        target = self.file(slide)
        try:
            _remove_leftovers(target)
            _replace(target, write)
        except OSError as error:
            done = len(list(self._folder.glob(f"*{self._suffix}")))
            raise ResultError(
                f"{target} cannot be written ({error}); {done} slides are finished and stay. Make "
                "room, and call it again: it goes on with this slide"
            ) from error
        return target

    def under_way(self, slide: Path, what: str) -> Path:
        """Where something of a slide that is not finished is kept."""
        return self._folder / f".{slide.stem}{self._suffix}.{what}"

    def has(self, slide: Path) -> bool:
        """Whether a slide is finished."""
        return self.file(slide).exists()

    def forget_run(self) -> None:
        """Remove what tells of a run that left nothing, so that another may use the folder."""
        if [path.name for path in self._folder.iterdir()] == [_RUN]:
            (self._folder / _RUN).unlink()

    def _refuse_same_names(self, slides: Sequence[Path]) -> None:
        first: dict[Path, Path] = {}
        for slide in slides:
            other = first.setdefault(self.file(slide), slide)
            if other != slide:
                raise OptionError(
                    f"{other} and {slide} would both be written to {self.file(slide)}; use one "
                    "folder for each"
                )

    def _refuse_other_run(self, run: Mapping[str, Any]) -> None:
        record = self._folder / _RUN
        if not record.exists():
            strangers = sorted(self._folder.glob(f"*{self._suffix}"))
            if strangers:
                raise OptionError(
                    f"{self._folder} has no {_RUN} that tells what made {some(strangers)}; use "
                    "another folder"
                )
            return
        try:
            saved = json.loads(record.read_text())
        except ValueError as error:
            raise OptionError(f"{record} cannot be read ({error}); use another folder") from error
        if not isinstance(saved, dict):
            raise OptionError(f"{record} is no record of a run; use another folder")
        differing = [
            f"{name}: there {saved.get(name)!r}, here {run.get(name)!r}"
            for name in sorted({*saved, *run})
            if saved.get(name) != run.get(name)
        ]
        if differing:
            raise OptionError(
                f"{self._folder} holds results of another run; use another folder. What differs: "
                + "; ".join(differing)
            )


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file or a folder, which is at `target` only when it is complete.

    It is complete after a loss of power too: its bytes are on the disk before it has its name.
    """
    # Of a name of its own: several ranks, on several machines, write `run.json`.
    part = target.with_name(f".{target.name}.{uuid4().hex}{_PART}")
    try:
        write(part)
        sync(part)
        if part.is_dir() and target.exists():  # another call finished it: a folder stays
            shutil.rmtree(part)
        else:
            os.replace(part, target)
        sync(target.parent, alone=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink()
        raise


def _remove_leftovers(target: Path) -> None:
    """Remove what calls that were killed while they wrote the same file left of it."""
    for part in target.parent.glob(f".{escape(target.name)}.*{_PART}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def sync(path: Path, alone: bool = False) -> None:
    """Have the disk keep a file, or a folder with all that is in it; `alone`, only its names.

    Where a share cannot do that, as many cannot of folders, nothing is lost but that.
    """
    is_folder = path.is_dir()
    if is_folder and not alone:
        for inner in path.iterdir():
            sync(inner)
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_folder and error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
