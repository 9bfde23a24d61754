"""Folders that cannot be listed, and links that lead nowhere, are told."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pydmed_dali import Dataset
from pydmed_dali.errors import DatasetError

_NOBODY = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not read everything: root may, whatever the mode says."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone can reach, with a slide in it and one in a folder below."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path in ("a.tif", "below/b.tif"):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).touch()
        yield folder
        for inner in folder.iterdir():
            if not inner.is_symlink():
                inner.chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_an_error(folder: Path) -> None:
    (folder / "below").chmod(0)
    with (
        without_rights(),
        pytest.raises(DatasetError, match=r"below cannot be listed \(Permission denied\).*table"),
    ):
        Dataset.from_folder(folder)


def test_a_link_into_a_folder_that_cannot_be_entered_is_an_error(folder: Path) -> None:
    (folder / "more").symlink_to("below/deeper")
    (folder / "below").chmod(0)
    with without_rights(), pytest.raises(DatasetError, match="cannot be listed"):
        Dataset.from_folder(folder)


def test_a_folder_of_the_file_system_itself_is_left_out_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "below").rename(folder / "lost+found")
    (folder / "lost+found").chmod(0)
    with without_rights(), caplog.at_level(logging.WARNING):
        assert len(Dataset.from_folder(folder)) == 1
    assert "lost+found cannot be listed, and is left out" in caplog.text


def test_a_path_too_long_to_be_listed_is_an_error(tmp_path: Path) -> None:
    """By another reason than rights: a folder whose path is longer than the system takes."""
    (tmp_path / "a.tif").touch()
    made = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=made)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=made)
        os.close(made)
        made = inner
    os.close(made)
    with pytest.raises(DatasetError, match=os.strerror(errno.ENAMETOOLONG)):
        Dataset.from_folder(tmp_path)


def test_links_that_lead_nowhere_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "unmounted").symlink_to("/nowhere/slides")
    (tmp_path / "gone.tif").symlink_to("/nowhere/slide.tif")
    (tmp_path / "itself").symlink_to("itself")
    with caplog.at_level(logging.WARNING):
        dataset = Dataset.from_folder(tmp_path)
    assert [record.path.name for record in dataset.slides] == ["a.tif", "gone.tif"]
    assert f"links lead nowhere ({tmp_path}/itself, {tmp_path}/unmounted)" in caplog.text
