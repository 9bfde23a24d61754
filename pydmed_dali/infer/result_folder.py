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

from pydmed_dali.dataset import Record
from pydmed_dali.dataset.short_name import LONGEST, short_name
from pydmed_dali.errors import OptionError, ResultError
from pydmed_dali.infer.result_names import result_names
from pydmed_dali.slide.file_identity import FileIdentity
from pydmed_dali.text import printable, shorten_list

_RUN = "run.json"
_PART = ".part"
_LEFT_SECONDS = 3600.0  # after which nobody writes a file any more that was last touched then


CONTENT = "slide_content"
"""The attribute of results that tells the slide's file from others."""


def origin(record: Record, file: FileIdentity | None) -> dict[str, str]:
    """Which slide results are of, to keep in their file.

    `slide` is its path below the dataset's folder, in full where the file's own name is cut, with
    what cannot be printed escaped; `slide_content` tells its file, where one is seen, from others.
    """
    told = {"slide": printable(record.relative)}
    return told if file is None else told | {CONTENT: file.content}


class ResultFolder:
    """Holds a file for every slide that is finished, of the slide's name, and `run.json`.

    See `result_names` for the names. Raises `OptionError` where it holds another run's results,
    saying all that differs, and where it cannot hold files, or not of such long names.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        suffix: str,
        run: Mapping[str, Any],
        slides: Sequence[Record],
    ) -> None:
        """`run` is of JSON's kinds: what results follow from beside the slide."""
        self._folder, self._suffix = Path(folder), suffix
        self._most = LONGEST - len(os.fsencode(_part(Path(suffix)).name))
        text = json.dumps(run, indent=2, sort_keys=True) + "\n"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._refuse_other_run(run)
            _replace(self._folder / _RUN, lambda path: path.write_text(text))
        except OSError as error:
            raise OptionError(
                f"{printable(self._folder)} cannot hold results ({error.strerror}); give a folder "
                "that is there, or can be made, and can be written to"
            ) from error
        fold = (self._folder / _RUN.upper()).exists()
        self._names = result_names(slides, self._most, fold)
        try:
            self._refuse_long_names()
        except OptionError:
            self.forget_run()
            raise

    @property
    def folder(self) -> Path:
        """The folder."""
        return self._folder

    def file(self, slide: Path) -> Path:
        """Where the results of a slide are, once it is finished."""
        return self._folder / f"{self._name(slide)}{self._suffix}"

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
        return self._folder / f".{self._name(slide)}{self._suffix}.{what}"

    def has(self, slide: Path) -> bool:
        """Whether a slide is finished."""
        return self.file(slide).exists()

    def forget_run(self) -> None:
        """Remove what tells of a run that left nothing, so that another may use the folder."""
        if [path.name for path in self._folder.iterdir()] == [_RUN]:
            (self._folder / _RUN).unlink()

    def _name(self, slide: Path) -> str:
        return self._names.get(slide) or short_name(slide.stem, self._most)

    def _refuse_long_names(self) -> None:
        """Raise where the longest name cannot be written, before a model has run for hours."""
        names = self._names
        longest = max(names, key=lambda path: len(os.fsencode(names[path])), default=None)
        if longest is None:
            return
        part = _part(self.file(longest))
        try:
            part.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OptionError(
                f"the results of {printable(longest)} cannot be written to {printable(part)} "
                f"({error.strerror}); give a folder with a shorter path, or on another file system"
            ) from error

    def _refuse_other_run(self, run: Mapping[str, Any]) -> None:
        record = self._folder / _RUN
        if not record.exists():
            strangers = sorted(self._folder.glob(f"*{self._suffix}"))
            if strangers:
                raise OptionError(
                    f"{self._folder} has no {_RUN} that tells what made {shorten_list(strangers)}; "
                    "use another folder"
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
    part = _part(target)
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


def _part(target: Path) -> Path:
    """Where a file is written before it has its name."""
    return target.with_name(f".{target.name}.{uuid4().hex}{_PART}")


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
