"""What a demonstration found: for people, and as plain values for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydmed_dali.pool.statistics import Stats


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training came to."""

    accuracy: float
    """Share of the test slides' crops that were recognised; those on the ground do not count."""
    accuracy_per_class: dict[str, float]
    """The same for each class by itself."""
    test_crops: int
    """Crops that the accuracy was taken over."""
    test_slides: tuple[Path, ...]
    """Slides they came from; none of them was trained on."""
    left_out_in_training: float
    """Share of the training crops that lay mostly on the ground, and so carried no class."""
    left_out_in_test: float
    """The same for the test slides."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "accuracy": round(self.accuracy, 4),
            "accuracy_per_class": {
                name: round(value, 4) for name, value in self.accuracy_per_class.items()
            },
            "test_crops": self.test_crops,
            "test_slides": [str(path) for path in self.test_slides],
            "left_out_in_training": round(self.left_out_in_training, 4),
            "left_out_in_test": round(self.left_out_in_test, 4),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a demonstration did."""

    stats: Stats
    """Of the source that was streamed, or trained on, when it had delivered the last batch."""
    steps: int
    """Batches that were used."""
    device: str
    """Where crops were augmented: `cpu` or `gpu`."""
    batch_shape: tuple[int, ...]
    """(N, channels, height, width) of a batch of images."""
    picture: Path
    seconds: float
    """From the start to the finished picture."""
    lesson: TrainingResult | None = None
    """None where nothing was trained."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a lesson's stand beside the others."""
        stats = self.stats
        return {
            **({} if self.lesson is None else self.lesson.as_dict()),
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "crops_per_second": round(stats.crops_per_second, 1),
            "starved_fraction": round(stats.starved_fraction, 4),
            "chunks_read": stats.chunks_read,
            "slides_used": [str(path) for path in stats.reads_per_slide],
            "slides_skipped": [
                {"path": str(path), "reason": reason}
                for path, reason in stats.slides_skipped.items()
            ],
            "device": self.device,
            "batch_shape": list(self.batch_shape),
            "picture": str(self.picture),
        }
