"""Streaming from anybody's slides, with no labels and nothing trained."""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import Progress

from pydmed_dali import Dataset
from pydmed_dali.demo.crop_recorder import CropRecorder
from pydmed_dali.demo.picture import draw_picture
from pydmed_dali.demo.report import Report
from pydmed_dali.demo.settings import Settings
from pydmed_dali.demo.training import stream


def stream_own_slides(folder: Path, settings: Settings, progress: Progress) -> Report:
    """Take `settings.steps` batches of augmented crops from the slides in `folder`; draw them.

    Slides that cannot be read are left out and reported. Raises `DatasetError` for a folder without
    slides and `SlideError` where none of them can be read.
    """
    begun = time.monotonic()
    settings.make_folder()
    trail = CropRecorder(settings.steps, settings.seed)
    with settings.source(Dataset.from_folder(folder)) as source:
        for batch in stream(source, settings.steps, progress, "streaming"):
            trail.add(batch)
        stats = source.stats()
    title = f"Streamed from {len(stats.reads_per_slide)} slides in {folder}"
    draw_picture(settings.picture, title, settings.summary(stats), source, trail)
    return Report(
        stats=stats,
        steps=settings.steps,
        device=source.device,
        batch_shape=trail.batch_shape,
        picture=settings.picture,
        seconds=time.monotonic() - begun,
    )
