"""Finds the file that a table means by a name: in another normal form, or without its ending."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydmed_dali.dataset.listing import SLIDE_EXTENSIONS, ending_of, list_slides
from pydmed_dali.dataset.spelling import composed
from pydmed_dali.errors import DatasetError
from pydmed_dali.text import printable, shorten_list


class NameLookup:
    """What lies below a folder, looked at as far as names are asked for."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._folders: dict[PurePosixPath, dict[str, list[str]]] = {}
        self._stems: dict[PurePosixPath, dict[str, list[str]]] = {}

    def find(self, name: PurePosixPath) -> PurePosixPath | None:
        """The path below the folder that a name without a file of its own means; None for none.

        A name in another of Unicode's normal forms than the file's is the file's name. A name
        without ending is that of the one slide with that name and an ending: in the named folder,
        else, for a name without folder, at any depth. Raises `DatasetError` where several files
        could be meant, naming them.
        """
        folder = PurePosixPath()
        for part in name.parts[:-1]:
            found = self._only(folder, [part] if self._exists(folder / part) else [], part)
            if found is None:
                return None
            folder /= found
        exact = self._only(folder, [], name.name)
        if exact is not None:
            return folder / exact
        if ending_of(name.name) in SLIDE_EXTENSIONS:
            return None
        beside = self._only(folder, self._slides(folder).get(composed(name.name), []))
        if beside is not None:
            return folder / beside
        deeper = self._only(PurePosixPath(), self._below.get(composed(str(name)), []))
        return None if deeper is None else PurePosixPath(deeper)

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        """Slides at any depth, by their composed names without ending or folder."""
        if self._base == self._base.parent:  # a whole file system is too much to look through
            return {}
        slides = [slide.path.relative_to(self._base) for slide in list_slides(self._base).slides]
        return _grouped((composed(path.stem), path.as_posix()) for path in slides)

    def _exists(self, path: PurePosixPath) -> bool:
        return os.path.exists(self._base / path)

    def _only(self, folder: PurePosixPath, found: list[str], name: str | None = None) -> str | None:
        """The one of these names, or else the one that is `name` in another normal form."""
        if not found and name is not None:
            found = self._names(folder).get(composed(name), [])
        if len(found) > 1:
            meant = [str(folder / other) for other in found]
            raise DatasetError(
                f"below {printable(self._base)} there are {len(found)} files that it could mean: "
                f"{shorten_list(meant)}; write the whole name"
            )
        return found[0] if found else None

    def _names(self, folder: PurePosixPath) -> dict[str, list[str]]:
        """The names in a folder, by their composed form."""
        if folder not in self._folders:
            self._folders[folder] = _grouped((composed(n), n) for n in self._listed(folder))
        return self._folders[folder]

    def _slides(self, folder: PurePosixPath) -> dict[str, list[str]]:
        """The slides in a folder, by their composed names without ending."""
        if folder not in self._stems:
            names = [n for n in self._listed(folder) if ending_of(n) in SLIDE_EXTENSIONS]
            stems = _grouped((composed(os.path.splitext(n)[0]), n) for n in names)
            self._stems[folder] = stems
        return self._stems[folder]

    def _listed(self, folder: PurePosixPath) -> list[str]:
        try:
            return sorted(os.listdir(self._base / folder))
        except (OSError, ValueError):
            return []


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups
