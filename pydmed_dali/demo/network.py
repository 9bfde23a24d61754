"""A network small enough to learn on two cores what tissue a crop shows."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pydmed_dali.pipelines.classification import MEAN, STD

_STEP = 4  # the ground is judged on every fourth pixel of each direction
_LIGHT = 0.75
_GREY = 0.04
_MOST_GROUND = 0.5


class TissueNet(nn.Module):
    """Four convolutions that shrink the crop to 1/32, an average over what is left, and one layer.

    Takes images (N, 3, height, width), normalised float32, of at least 32 pixels a side; gives
    logits (N, classes).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(3, 16, size=4, stride=4),
            *_block(16, 32, size=3, stride=2),
            *_block(32, 64, size=3, stride=2),
            *_block(64, 64, size=3, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        return cast(Tensor, self.layers(images))


def on_ground(images: Tensor) -> Tensor:
    """(N,) bool: which crops lie mostly on the glass around the tissue, and so show no class.

    `images` is (N, 3, height, width), normalised. Glass is light and grey, and stays so whatever
    the augmentation does to brightness and hue; tissue, even fat, is tinted by its stain.
    """
    pixels = unnormalised(images[..., ::_STEP, ::_STEP])
    darkest, lightest = pixels.amin(dim=1), pixels.amax(dim=1)
    glass = (darkest > _LIGHT) & (lightest - darkest < _GREY)
    return glass.float().mean(dim=(1, 2)) > _MOST_GROUND


def unnormalised(images: Tensor) -> Tensor:
    """Images (N, 3, height, width) within 0..1, from those that `classification` gives out."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def _block(inputs: int, outputs: int, *, size: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, size, stride, padding=max(size - stride, 0)),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
