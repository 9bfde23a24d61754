"""What tells one file from another, and what does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pydmed_dali.errors import SlideChangedError, SlideNotFoundError
from pydmed_dali.slide.file_identity import check_same_file, file_identity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "slide"
    path.write_bytes(bytes(range(250)) * 100)
    return path


def test_a_copy_with_the_same_time_is_the_same_file(file: Path) -> None:
    """A mount may give a file another number each time it is looked up."""
    assert file_identity(Path(shutil.copy2(file, file.with_name("copy")))) == file_identity(file)


@pytest.mark.parametrize("place", [0, 12_500, 24_999])
def test_other_bytes_with_the_same_time_are_another_file(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    (other := file.with_name("other")).write_bytes(data)
    times = file.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_identity(other) != file_identity(file)


def test_another_time_is_another_file(file: Path) -> None:
    before, times = file_identity(file), file.stat()
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert file_identity(file) != before
    with pytest.raises(SlideChangedError, match="another file stands there"):
        check_same_file(file, before)


def test_what_is_checked_while_a_slide_is_open(file: Path) -> None:
    before, times = file_identity(file), file.stat()
    check_same_file(file, before)
    os.replace(shutil.copy2(file, file.with_name("copy")), file)
    check_same_file(file, before)
    (other := file.with_name("other")).write_bytes(file.read_bytes()[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, file)
    with pytest.raises(SlideChangedError, match="make a new source to read the new one"):
        check_same_file(file, before)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SlideChangedError):
        check_same_file(file, before)
    file.unlink()
    with pytest.raises(SlideNotFoundError, match="no such file any more"):
        check_same_file(file, before)


def test_what_is_no_file_is_not_watched(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nothing", Path("/none/0001.x")):
        assert file_identity(path) is None
        check_same_file(path, None)
