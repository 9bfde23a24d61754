"""Models as the command line names them, made to take tiles as they come."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pydmed_dali.errors import OptionError

Model = Callable[[torch.Tensor], torch.Tensor]

FORMS = (
    "a TorchScript file, a file of torch.export (.pt2), timm:NAME, or module:function of your own"
)


def load_model(name: str, device: str) -> Model:
    """The model that a name stands for: it takes (N, height, width, 3) uint8, gives (N, K).

    - a file that `torch.jit.save` or, ending in .pt2, `torch.export.save` wrote: it is given (N, 3,
      height, width) float32 from 0 to 1. Loading such a file can run code that is in it: load only
      files that you trust.
    - `timm:NAME`: a pretrained network without its head; its tiles are normalised as it expects.
    - `module:function`: a function that takes tiles as they come, found from the working directory
      on.

    `device` is `cpu` or `cuda`. Raises `OptionError` for what is none of these or cannot be loaded.
    """
    path = Path(name)
    if path.is_file():
        return _load_file(path, device)
    kind, colon, rest = name.partition(":")
    if colon and kind == "timm":
        return _load_timm(rest, device)
    if colon and kind and rest.isidentifier():
        return _load_function(kind, rest)
    raise OptionError(f"there is no file {name!r}; a model is {FORMS}")


def _load_file(path: Path, device: str) -> Model:
    script: Any = torch.jit  # without annotations
    try:
        network: Any = (
            torch.export.load(path).module()
            if path.suffix == ".pt2"
            else script.load(path, map_location=device).eval()
        )
    except Exception as error:  # whatever torch raises of a file that is none
        raise OptionError(f"{path} cannot be loaded ({error}); a model is {FORMS}") from error
    return lambda tiles: network(tiles.permute(0, 3, 1, 2).float().div(255))


def _load_timm(name: str, device: str) -> Model:
    if importlib.util.find_spec("timm") is None:
        raise OptionError(f"timm:{name} needs timm: install it, or take another form: {FORMS}")
    timm: Any = importlib.import_module("timm")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0).eval().to(device)
        config = timm.data.resolve_model_data_config(network)
    except Exception as error:
        raise OptionError(f"timm cannot make {name!r} ({error})") from error
    mean, std = (
        torch.tensor(config[each], device=device).view(1, 3, 1, 1) for each in ("mean", "std")
    )
    return lambda tiles: network((tiles.permute(0, 3, 1, 2).float().div(255) - mean) / std)


def _load_function(module: str, name: str) -> Model:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"{module}:{name} cannot be imported ({error})") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(found):
        raise OptionError(f"{module}:{name} is {found!r}, and must be a function of tiles")
    model: Model = found
    return model
