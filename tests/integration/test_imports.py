"""Importing the package costs nothing: libraries are loaded where they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = "pydmed_dali"
SLOW_TO_IMPORT = {
    "cupy",
    "nvidia",
    "torch",
    "cv2",
    "h5py",
    "imagecodecs",
    "matplotlib",
    "numpy",
    "openslide",
    "PIL",
    "shapely",
    "tifffile",
}


def test_importing_the_package_loads_none_of_the_libraries() -> None:
    code = f"import sys, {PACKAGE}; print(*sorted({SLOW_TO_IMPORT!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stdout.split() == []
