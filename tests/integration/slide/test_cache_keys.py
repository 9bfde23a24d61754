"""Keys of the cache are alike in all processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pydmed_dali.slide.cache import file_key


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Of some file."""
    (tmp_path / "slide.svs").write_bytes(b"pixels")
    found = file_key(tmp_path / "slide.svs", "mask", 1)
    assert found is not None
    return found


def test_a_key_is_the_same_in_every_process_and_from_every_folder(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_key(Path("slide.svs"), "mask", 1) == key
    code = (
        "from pathlib import Path; from pydmed_dali.slide.cache import file_key; "
        f"print(file_key(Path({str(tmp_path / 'slide.svs')!r}), 'mask', 1))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.strip() == key
