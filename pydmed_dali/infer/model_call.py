"""Asking a model about a batch of tiles, and refusing what it must not answer."""

from __future__ import annotations

import torch

from pydmed_dali.errors import UserCodeError
from pydmed_dali.infer.collector import Features, Rows
from pydmed_dali.infer.model_input import FedModel
from pydmed_dali.source.provenance import InfoColumn
from pydmed_dali.source.tile_source import TileSource
from pydmed_dali.text import shorten_list


def call_model(
    model: FedModel, tiles: torch.Tensor, rows: Rows, source: TileSource
) -> torch.Tensor:
    """The model's answer to a batch; raises `UserCodeError` where it raises, or gives no tensor."""
    try:
        with torch.inference_mode():
            output = model(tiles)
    except Exception as error:
        where, shape = _slides_of(rows, source), tiles.shape[:3]
        raise UserCodeError(
            f"the model raised {error!r}, for tiles of {where}; it was given "
            f"{model.given.words(*shape)}; {model.given.other_words(*shape)}"
        ) from error
    if not isinstance(output, torch.Tensor):
        raise bad_output_error(output, rows, source, "a tensor")
    return output


def bad_output_error(output: object, rows: Rows, source: TileSource, wanted: str) -> UserCodeError:
    """The error for an answer that is not what is wanted."""
    return UserCodeError(
        f"the model returned {type(output).__name__} of shape "
        f"{tuple(getattr(output, 'shape', ()))} for {len(rows)} tiles of "
        f"{_slides_of(rows, source)}; it must return {wanted}"
    )


def to_finite_array(output: torch.Tensor, rows: Rows, source: TileSource) -> Features:
    """The answer as float32 on the CPU; raises `UserCodeError` where a number is not finite."""
    values = output.detach().to(device="cpu", dtype=torch.float32)
    good = torch.isfinite(values).flatten(1).all(dim=1).numpy()
    if not good.all():
        row = rows[~good][0]
        path = source.dataset.slides[int(row[InfoColumn.SLIDE])].path
        raise UserCodeError(
            f"the model returned what is no finite number for {int((~good).sum())} of "
            f"{len(rows)} tiles, the first one of {path} at "
            f"x={row[InfoColumn.X]}, y={row[InfoColumn.Y]} (level-0 pixels)"
        )
    found: Features = values.numpy()
    return found


def _slides_of(rows: Rows, source: TileSource) -> str:
    numbers = sorted(set(rows[:, InfoColumn.SLIDE].tolist()))
    return shorten_list([source.dataset.slides[number].path for number in numbers])
