"""timm, where it can be imported: it needs a torchvision that was made for the torch beside it."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import pytest


def import_timm() -> Any:
    """The module; skips the test, with the reason, where it, or its torchvision, is not usable."""
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    try:
        return importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported: {error}")
