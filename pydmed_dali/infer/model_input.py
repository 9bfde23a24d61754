"""The form in which a model is given tiles: as they come, or as normalised images in CHW."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pydmed_dali.errors import OptionError

logger = logging.getLogger("pydmed_dali.infer")

Model = Callable[[torch.Tensor], torch.Tensor]
Channels = tuple[float, float, float]

RAW, NONE, IMAGENET = "raw", "none", "imagenet"
_KNOWN: dict[str, tuple[Channels, Channels]] = {
    NONE: ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    IMAGENET: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
FORMS = (
    "'raw' (tiles as they come, (N, height, width, 3) uint8), 'none' ((N, 3, height, width) "
    "float32 from 0 to 1), 'imagenet' (that, less ImageNet's mean, by its standard deviation), or "
    "six numbers with commas, three means and three standard deviations"
)


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The form in which a model is given tiles.

    Without `mean` and `std`: (N, height, width, 3) uint8. With them: (N, 3, height, width) float32,
    from 0 to 1, less `mean`, by `std`, a number for each of red, green and blue.
    """

    mean: Channels | None = None
    std: Channels | None = None

    @classmethod
    def of(cls, normalize: str) -> ModelInput:
        """The form that a word stands for, or numbers, of which there are six.

        Raises `OptionError` for all else.
        """
        if normalize == RAW:
            return cls()
        if normalize in _KNOWN:
            return cls(*_KNOWN[normalize])
        try:
            numbers = [float(part) for part in normalize.split(",")]
        except (AttributeError, ValueError):
            numbers = []
        good = len(numbers) == 6 and all(map(math.isfinite, numbers)) and min(numbers[3:]) > 0
        if not good:
            raise OptionError(f"normalize must be {FORMS}; not {normalize!r}")
        red, green, blue, *std = numbers
        return cls.by((red, green, blue), std)

    @classmethod
    def by(cls, mean: Sequence[float], std: Sequence[float]) -> ModelInput:
        """Normalised by means and standard deviations, three each, of 0..1."""
        return cls((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def __str__(self) -> str:
        """The word, or the numbers, that `of` understands."""
        if self.mean is None or self.std is None:
            return RAW
        for word, numbers in _KNOWN.items():
            if (self.mean, self.std) == numbers:
                return word
        return ",".join(map(repr, (*self.mean, *self.std)))

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """(N, height, width, 3) uint8 in the form that the model takes."""
        if self.mean is None or self.std is None:
            return tiles
        image = tiles.permute(0, 3, 1, 2).float().div(255)
        if str(self) == NONE:
            return image
        mean, std = (
            torch.tensor(each, device=image.device).view(1, 3, 1, 1)
            for each in (self.mean, self.std)
        )
        return (image - mean) / std

    @property
    def record(self) -> dict[str, str]:
        """What tells results of this form from those of others; nothing for tiles as they come."""
        return {} if self.mean is None else {"normalize": str(self)}

    def words(self, count: int | str, height: int, width: int) -> str:
        """What the model is given for so many tiles, for people."""
        if self.mean is None:
            return f"({count}, {height}, {width}, 3) uint8 (normalize='raw')"
        return f"({count}, 3, {height}, {width}) float32 (normalize={str(self)!r})"

    def other_words(self, count: int | str, height: int, width: int) -> str:
        """How a model is run that takes the other layout, for people."""
        if self.mean is None:
            return (
                f"a model that takes ({count}, 3, {height}, {width}) floats is run with normalize "
                "'none', 'imagenet' or six numbers"
            )
        return (
            f"a model that takes ({count}, {height}, {width}, 3) uint8 is run with normalize 'raw'"
        )


@dataclass(frozen=True, slots=True)
class FedModel:
    """A model with the form in which it is given tiles: called with (N, height, width, 3) uint8."""

    model: Model
    given: ModelInput

    @classmethod
    def of(cls, model: Model, normalize: str) -> FedModel:
        """A model of `predict` or `segment`; warns of layers that are in training mode."""
        layers = model.modules() if isinstance(model, torch.nn.Module) else ()
        found = {type(layer).__name__ for layer in layers if _trains(layer)}
        if found:
            logger.warning(
                "the model has layers in training mode (%s): what it says of a tile depends on the "
                "batch, or on chance; call its eval() before",
                ", ".join(sorted(found)),
            )
        return cls(model, ModelInput.of(normalize))

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """What the model says of tiles."""
        return self.model(self.given(tiles))


def _trains(layer: torch.nn.Module) -> bool:
    """Whether a layer gives something else in training mode, and is in it."""
    kinds = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)
    return isinstance(layer, kinds) and layer.training
