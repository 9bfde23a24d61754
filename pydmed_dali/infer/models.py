"""Models as the command line names them, each with the form in which it is given tiles."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from pydmed_dali.errors import OptionError
from pydmed_dali.infer.model_file import Held, held_by
from pydmed_dali.infer.model_input import NONE, RAW, FedModel, ModelInput

logger = logging.getLogger("pydmed_dali.infer")

FORMS = (
    "a TorchScript file, a file of torch.export (.pt2), timm:NAME, or module:function of your own"
)
_MAKE_ONE = (
    "Build the network in Python, load the weights into it, call its eval(), and save the whole: "
    "torch.jit.save(torch.jit.script(network), 'model.pt'), or torch.export.save(torch.export."
    "export(network, (tiles,), dynamic_shapes=({0: torch.export.Dim('n', min=1)},)), 'model.pt2') "
    "with tiles of shape (2, 3, height, width). Or write a function that does so, and name it as "
    "module:function"
)
_STATED = "normalize"  # the extra file, or the attribute, by which a model says it


def load_model(
    name: str, device: str, normalize: str | None = None, *, trust: bool = False
) -> FedModel:
    """The model that a name stands for, and how it is given tiles.

    - a file that `torch.jit.save` or `torch.export.save` wrote: it is given (N, 3, height, width)
      float32 from 0 to 1, unless it says otherwise by an extra file `normalize`.
    - `timm:NAME`: a pretrained network without its head, normalised as its configuration says.
    - `module:function`: found from the working directory on; it is given (N, height, width, 3)
      uint8, unless it says otherwise by an attribute `normalize`. A `torch.nn.Module` is moved to
      the device and evaluated.

    Args:
        name: one of these.
        device: `cpu` or `cuda`; every network is moved there.
        normalize: how tiles are given, as `ModelInput.of` has it; None for what the model says.
        trust: whether a file of torch.export may be loaded, which can run any code that is in it.

    Raises `OptionError` for what is none of these, cannot be loaded or is not trusted.
    """
    path = Path(name)
    kind, colon, rest = name.partition(":")
    if path.is_file():
        network, stated = _load_file(path, device, trust)
        usual = NONE
    elif colon and kind == "timm":
        network, stated = _load_timm(rest, device)
        usual = RAW
    elif colon and kind and rest.isidentifier():
        network, usual = _load_function(kind, rest, device), RAW
        stated = getattr(network, _STATED, None)
    else:
        raise OptionError(f"there is no file {name!r}; a model is {FORMS}")
    given = ModelInput.of(normalize or stated or usual)
    if normalize and stated and given != ModelInput.of(stated):
        logger.warning("%s says normalize=%r, and is run with %r", name, stated, str(given))
    return FedModel(network, given)


def _load_file(path: Path, device: str, trust: bool) -> tuple[Any, str | None]:
    """(the network, the normalisation that the file states)."""
    held = held_by(path)
    if held not in (Held.SCRIPT, Held.EXPORT):
        raise OptionError(f"{path} cannot be loaded: it holds {held.value}. {_remedy(held)}")
    if held is Held.EXPORT and not trust:
        raise OptionError(
            f"{path} holds a program of torch.export, and torch loads such files by pickle, which "
            "can run any code that is in them. Where you trust whoever made it, add --trust-model"
        )
    try:
        load = _load_script if held is Held.SCRIPT else _load_export
        return load(path, device)
    except Exception as error:  # whatever torch raises of a damaged file
        raise OptionError(f"{path} holds {held.value} and cannot be loaded ({error})") from error


def _remedy(held: Held) -> str:
    return f"A model is {FORMS}" if held is Held.OTHER else _MAKE_ONE


def _load_script(path: Path, device: str) -> tuple[Any, str | None]:
    script: Any = torch.jit  # without annotations
    extra: dict[str, Any] = {_STATED: ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.*` is", DeprecationWarning)
        network = script.load(path, map_location=device, _extra_files=extra).eval()
    said = extra[_STATED]
    return network, (said.decode() if isinstance(said, bytes) else said) or None


def _load_export(path: Path, device: str) -> tuple[Any, str | None]:
    from torch.export.passes import move_to_device_pass

    extra: dict[str, Any] = {_STATED: ""}
    with path.open("rb") as file:
        program = torch.export.load(file, extra_files=extra)
    return move_to_device_pass(program, device).module(), extra[_STATED] or None


def _load_timm(name: str, device: str) -> tuple[Any, str]:
    if importlib.util.find_spec("timm") is None:
        raise OptionError(f"timm:{name} needs timm: install it, or take another form: {FORMS}")
    timm: Any = importlib.import_module("timm")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0).eval().to(device)
        config = timm.data.resolve_model_data_config(network)
        given = ModelInput.by(config["mean"], config["std"])
    except Exception as error:
        raise OptionError(f"timm cannot make {name!r} ({error})") from error
    return network, str(given)


def _load_function(module: str, name: str, device: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"{module}:{name} cannot be imported ({error})") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(found):
        raise OptionError(f"{module}:{name} is {found!r}, and must be a function of tiles")
    return found.eval().to(device) if isinstance(found, torch.nn.Module) else found
