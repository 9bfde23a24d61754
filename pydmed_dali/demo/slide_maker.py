"""Makes one slide in a process of its own, so that several are made at once.

`python -m pydmed_dali.demo.slide_maker PATH WIDTH HEIGHT TISSUE SEED` is that process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pydmed_dali.errors import PydmedError
from pydmed_dali.geometry import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide


def make_slide(path: Path, size: Size, tissue: str, seed: int) -> None:
    """Make a slide in a process of its own, and wait for it. Raises `PydmedError` if it fails.

    The process has one thread, since as many of them run at once as there are cores.
    """
    arguments = [str(path), str(size.width), str(size.height), tissue, str(seed)]
    command = [sys.executable, "-P", "-m", "pydmed_dali.demo.slide_maker", *arguments]
    search_path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": search_path}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last_words = done.stderr.strip().rpartition("\n")[2]
        raise PydmedError(f"{path}: the slide could not be made ({last_words})")


def main(arguments: list[str]) -> None:
    """Make the slide that the arguments describe."""
    path, width, height, tissue, seed = arguments
    write_tissue_slide(path, Size(int(width), int(height)), tissue=tissue, seed=int(seed))


if __name__ == "__main__":
    main(sys.argv[1:])
