"""The rule for unit tests: none starts a process or runs a pipeline. So all take half a minute."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_process_and_no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs one belongs into tests/integration."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a unit test starts a process or a pipeline: see tests/integration")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    pipeline = sys.modules.get("nvidia.dali.pipeline")
    if pipeline is not None:
        monkeypatch.setattr(pipeline.Pipeline, "build", refuse)
