"""The main job end to end: slides are made, a network learns from some and is tested on others."""

from __future__ import annotations

import time

import torch
from rich.progress import Progress

from pydmed_dali import Dataset
from pydmed_dali.demo.cohort import Cohort
from pydmed_dali.demo.crop_recorder import CropRecorder
from pydmed_dali.demo.network import TissueNet
from pydmed_dali.demo.picture import draw_picture
from pydmed_dali.demo.report import Report, TrainingResult
from pydmed_dali.demo.settings import Settings
from pydmed_dali.demo.training import Scores, test, train
from pydmed_dali.errors import PydmedError

WANTED_ACCURACY = 0.9
"""What the demonstration must reach on slides it never saw."""

_TEST_PASSES, _TEST_CROPS = 4, 64  # BigChunks of each test slide, crops of each BigChunk


def train_on_synthetic_slides(
    settings: Settings, progress: Progress, cohort: Cohort | None = None
) -> Report:
    """Make the slides of `cohort`, train on its first part, test on the other, draw the picture.

    By default 20 slides of 8192x8192 pixels, seeded by the settings. Slides and picture go to
    `settings.out`.
    """
    begun = time.monotonic()
    settings.make_folder()
    train_set, test_set = (cohort or Cohort(settings.seed)).make(settings.out, progress)
    torch.manual_seed(settings.seed)
    network = TissueNet(len(train_set.classes))
    trail = CropRecorder(settings.steps, settings.seed)
    with settings.source(train_set) as source:
        network.to("cuda" if source.device == "gpu" else "cpu")
        left_out = train(network, source, settings.steps, trail, progress)
        stats = source.stats()
    with settings.source(test_set, passes=_TEST_PASSES, crops_per_chunk=_TEST_CROPS) as unseen:
        lesson = _lesson(test(network, unseen, progress), test_set, left_out)
    title = f"Trained on these slides; {lesson.accuracy:.1%} right on {len(test_set)} others"
    draw_picture(settings.picture, title, settings.summary(stats), source, trail)
    return Report(
        stats=stats,
        steps=settings.steps,
        device=source.device,
        batch_shape=trail.batch_shape,
        picture=settings.picture,
        seconds=time.monotonic() - begun,
        lesson=lesson,
    )


def check_accuracy(report: Report) -> None:
    """Raise `PydmedError` where the network did not learn what it should."""
    if report.lesson is not None and report.lesson.accuracy < WANTED_ACCURACY:
        raise PydmedError(
            f"the accuracy on the test slides is {report.lesson.accuracy:.3f}, less than "
            f"{WANTED_ACCURACY}; a demonstration with more --steps learns more"
        )


def _lesson(marks: Scores, test_set: Dataset, left_out: float) -> TrainingResult:
    judged = marks.judged.clamp(min=1)
    shares = (marks.right / judged).tolist()
    names = [str(label) for label in test_set.classes]
    return TrainingResult(
        accuracy=marks.accuracy,
        accuracy_per_class=dict(zip(names, shares, strict=True)),
        test_crops=int(marks.judged.sum()),
        test_slides=tuple(record.path for record in test_set.slides),
        left_out_in_training=left_out,
        left_out_in_test=marks.left_out,
    )
