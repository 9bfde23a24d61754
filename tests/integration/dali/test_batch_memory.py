"""Batches get the memory of those that the loop let go of, instead of new pages each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pydmed_dali import Size
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide

_VARIABLE = "DALI_MALLOC_POOL_THRESHOLD"
_PROGRAM = """
import resource, sys
from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic

with BigChunkSource(
    Dataset.from_folder(sys.argv[1]), chunk_size=512, crop_size=224, batch_size=200, resident=2,
    crops_per_chunk=2000, num_workers=0, device="cpu",
) as source:
    names = ["image", "label", "info"]
    for number, batch in enumerate(SmallChunkIterator(basic(source), names, batches_per_epoch=90)):
        if number == 50:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 39)
"""


def pages_of_a_batch(folder: Path, threshold: str | None) -> int:
    """Pages that a process takes anew for each batch of 30 MB, of 7,350 pages."""
    environment = {name: value for name, value in os.environ.items() if name != _VARIABLE}
    if threshold is not None:
        environment[_VARIABLE] = threshold
    command = [sys.executable, "-c", _PROGRAM, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_batch_takes_no_new_pages_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    write_coordinate_slide(tmp_path / "a.tif", Size(1024, 1024), levels=1, mpp=0.5)
    assert pages_of_a_batch(tmp_path, None) < 200 < pages_of_a_batch(tmp_path, "1024M")
