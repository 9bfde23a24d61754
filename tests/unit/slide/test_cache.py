"""What is kept on disk comes back as it was, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pydmed_dali.slide.cache import VARIABLE, Cache, cache_folder, file_key


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Of some file."""
    (tmp_path / "slide.svs").write_bytes(b"pixels")
    found = file_key(tmp_path / "slide.svs", "mask", 1)
    assert found is not None
    return found


def test_what_was_put_comes_back(tmp_path: Path, key: str) -> None:
    kept = Cache(tmp_path / "cache")
    assert kept.get(key) is None
    kept.put(key, b"first")
    kept.put(key, b"second")
    assert Cache(tmp_path / "cache").get(key) == b"second"


def test_without_a_folder_or_a_key_nothing_is_kept(tmp_path: Path, key: str) -> None:
    for kept, name in ((Cache(None), key), (Cache(tmp_path / "cache"), None)):
        kept.put(name, b"data")
        assert kept.get(name) is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_entry_counts_as_missing(tmp_path: Path, key: str, damage: str) -> None:
    kept = Cache(tmp_path / "cache")
    kept.put(key, b"some data")
    (file,) = (tmp_path / "cache").glob("*/*")
    data = file.read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    file.write_bytes(
        {"cut": data[:-3], "flipped": flipped, "empty": b"", "longer": data + b"x"}[damage]
    )
    assert kept.get(key) is None
    kept.put(key, b"some data")
    assert kept.get(key) == b"some data"


def test_a_key_tells_files_kinds_and_parts_apart(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(b"pixels")
    os.utime(path, ns=(1, 1))
    keys = {file_key(path, "mask", 1), file_key(path, "facts", 1), file_key(path, "mask", 2)}
    os.utime(path, ns=(1, 2))
    keys.add(file_key(path, "mask", 1))
    path.write_bytes(b"pixels of another slide")
    os.utime(path, ns=(1, 1))
    keys.add(file_key(path, "mask", 1))
    other = tmp_path / "other.svs"
    other.write_bytes(b"pixels")
    os.utime(other, ns=(1, 1))
    keys.add(file_key(other, "mask", 1))
    assert len(keys) == 6 and None not in keys
    assert file_key(tmp_path / "missing.svs", "mask", 1) is None


def test_a_full_disk_is_no_failure(tmp_path: Path, key: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / key[:2]).write_text("in the way")
    kept = Cache(tmp_path / "cache")
    kept.put(key, b"data")
    assert kept.get(key) is None


def test_a_write_that_is_interrupted_leaves_nothing(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path / "cache").put(key, b"data")
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_the_folder_is_the_first_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "option") == tmp_path / "option"
    assert cache_folder(None) == tmp_path / "variable"
    monkeypatch.delenv(VARIABLE)
    assert cache_folder(None) == tmp_path / "xdg" / "pydmed-dali"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == tmp_path / "home" / ".cache" / "pydmed-dali"


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache_folder(None) is None


def test_a_folder_that_cannot_be_written_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert cache_folder(tmp_path / "file") is None
    assert cache_folder(tmp_path / "file") is None
    (record,) = caplog.records
    assert str(tmp_path / "file") in record.message and VARIABLE in record.message
