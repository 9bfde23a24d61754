"""Elastic deformation, in torch, behind the pipeline: DALI has no operator for it on the CPU.

P. Y. Simard, D. Steinkraus and J. C. Platt, "Best practices for convolutional neural networks
applied to visual document analysis", ICDAR 2003: each pixel is displaced at random, displacements
being smoothed by a Gaussian. (DALI's `fn.experimental.remap` displaces pixels on a GPU only.)

    for batch in loader:
        field = elastic_field(batch["info"], 224, deviation=4.0, smoothness=12.0)
        image = displace(batch["image"].float(), field.to(device))
"""

from __future__ import annotations

import math

import torch

from pydmed_dali import InfoColumn
from pydmed_dali.errors import OptionError

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BITS = 24  # as many as a float32 holds
_REACH = 3.0  # standard deviations at which the Gaussian is cut


def elastic_field(
    info: torch.Tensor,
    size: int,
    *,
    deviation: float = 4.0,
    smoothness: float = 12.0,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """(N, size, size, 2) float32: by how much each pixel of each crop is displaced, (x, y).

    Displacements have a mean of 0 and a standard deviation of `deviation` pixels; they are uniform
    noise, smoothed by a Gaussian of standard deviation `smoothness` pixels (Simard's sigma; his
    alpha is `deviation` * `smoothness` * 2 * sqrt(3 * pi)). Above half of `smoothness`, a
    deviation tears things apart.

    `info` is the pipeline's, (N, columns). A field is a function of `seed`, BigChunk and number of
    the crop in it, so a resumed run gets the same, and no state has to be kept; it is made on
    `device`, by default that of `info`. Raises `OptionError` for numbers that are not positive.
    """
    if min(size, deviation, smoothness) <= 0:
        raise OptionError(
            f"size={size}, deviation={deviation} and smoothness={smoothness} must be positive"
        )
    device = info.device if device is None else torch.device(device)
    reach = math.ceil(_REACH * smoothness)
    wide = size + 2 * reach
    chunk, crop = (info[:, column].to(device) for column in (InfoColumn.CHUNK, InfoColumn.CROP))
    noise = _noise(seed, chunk, crop, wide)
    smoothing = _smoothing(size, reach, smoothness, noise)
    field = smoothing @ noise @ smoothing.T
    # A sum of independent numbers: their variances add up, each by its squared weight.
    alone = smoothing[0].square().sum() * math.sqrt(1 / 3)
    return (field * (deviation / alone)).permute(0, 2, 3, 1)


def displace(image: torch.Tensor, field: torch.Tensor, *, nearest: bool = False) -> torch.Tensor:
    """(N, C, height, width): at each place what lies in `image` where the field points to.

    `image` is floating point; `field` is (N, height, width, 2), (x, y) in pixels, on the same
    device. By linear interpolation, or, for masks (as floating point), the nearest pixel's value.
    Raises `OptionError` for a field of another size.

    Beyond the border the image is mirrored about the centres of its outermost pixels.
    """
    height, width = image.shape[-2:]
    if field.shape != (len(image), height, width, 2):
        raise OptionError(
            f"a field of shape {tuple(field.shape)} does not fit images of {tuple(image.shape)}; "
            f"make it with elastic_field(info, {height}), of the same batch, from square images"
        )
    rows = torch.arange(height, device=image.device, dtype=torch.float32)
    columns = torch.arange(width, device=image.device, dtype=torch.float32)
    place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1) + field
    # grid_sample counts from -1 to 1, here from the first pixel's centre to the last one's.
    half = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=image.device) / 2
    return torch.nn.functional.grid_sample(
        image,
        (place / half - 1).to(image.dtype),
        mode="nearest" if nearest else "bilinear",
        padding_mode="reflection",
        align_corners=True,
    )


def _noise(seed: int, chunk: torch.Tensor, crop: torch.Tensor, wide: int) -> torch.Tensor:
    """(N, 2, wide, wide) float32 within -1..1, each as likely; 24 bits of a hash for each."""
    state = torch.zeros_like(chunk)
    for word in (torch.full_like(chunk, seed), chunk, crop):
        state = _mix(state, word)
    numbers = torch.arange(2 * wide * wide, device=chunk.device)
    bits = _shifted(_mix(state[:, None], numbers), 64 - _BITS)
    return (bits.float() * 2.0 ** (1 - _BITS) - 1).view(-1, 2, wide, wide)


def _mix(state: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    """A step of SplitMix64 in 64-bit integers that wrap around, as `pydmed_dali.plan.random`."""
    bits = (state + _signed(_GOLDEN)) ^ word
    bits = (bits ^ _shifted(bits, 30)) * _signed(_FIRST)
    bits = (bits ^ _shifted(bits, 27)) * _signed(_SECOND)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """To the right, with zeros coming in: torch's own shift of int64 keeps the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _smoothing(size: int, reach: int, smoothness: float, like: torch.Tensor) -> torch.Tensor:
    """(size, size + 2 reach): each row a Gaussian about its place, of sum 1."""
    along = torch.arange(-reach, reach + 1, device=like.device, dtype=torch.float64)
    weights = torch.exp(-(along**2) / (2 * smoothness**2))
    rows = torch.zeros(size, size + 2 * reach, device=like.device, dtype=torch.float64)
    places = torch.arange(size, device=like.device)[:, None]
    rows[places, places + torch.arange(2 * reach + 1, device=like.device)] = weights / weights.sum()
    return rows.to(like.dtype)
