"""A model is called once on blank tiles, before any slide is opened."""

from __future__ import annotations

import torch

from pydmed_dali.errors import UserCodeError
from pydmed_dali.geometry import Size
from pydmed_dali.infer.model_input import FedModel

_TILES = 2


def try_model(model: FedModel, name: str, tile: Size, batch_size: int, device: str) -> None:
    """Call a model of `predict` on a few blank tiles.

    Args:
        model: with the form in which it is given tiles.
        name: of the model, for errors.
        tile: width and height of a tile, in pixels.
        batch_size: no more tiles than these are given.
        device: where, `cpu` or `cuda`.

    Raises `UserCodeError` where it raises, naming both layouts, or gives no (N, K) tensor.
    """
    count = min(_TILES, batch_size)
    tiles = torch.zeros((count, tile.height, tile.width, 3), dtype=torch.uint8, device=device)
    shape = (count, tile.height, tile.width)
    given = model.given.words(*shape)
    try:
        with torch.inference_mode():
            output = model(tiles)
    except Exception as error:
        raise UserCodeError(
            f"the model {name} raised {error!r} for {count} blank tiles, before any slide was "
            f"opened; it was given {given}; {model.given.other_words(*shape)}"
        ) from error
    said = tuple(getattr(output, "shape", ()))
    if not isinstance(output, torch.Tensor) or len(said) != 2 or said[0] != count or not said[1]:
        more = (
            "; a model that scores every pixel is run by pydmed_dali.infer.segment"
            if len(said) == 4
            else ""
        )
        raise UserCodeError(
            f"the model {name} returned {type(output).__name__} of shape {said} for {count} blank "
            f"tiles, before any slide was opened; it was given {given}, and must return a tensor "
            f"of shape ({count}, K){more}"
        )
