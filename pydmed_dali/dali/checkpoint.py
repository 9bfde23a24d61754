"""The state of a pipeline: its operators, and what those that draw random numbers draw next."""

from __future__ import annotations

import base64
import logging
from typing import Any

import nvidia.dali
from nvidia.dali import Pipeline, backend_impl

from pydmed_dali.errors import StateError
from pydmed_dali.plan.saved_values import damaged, mapping, part

logger = logging.getLogger("pydmed_dali.dali")

_VERSION = str(nvidia.dali.__version__)
_WAY_OUT = (
    "to go on with the saved run's crops and another augmentation, give "
    'source.load_state_dict the state\'s part "source"'
)
_OF_ONE_PROCESS = ("_", "preserve_name:", "function_id:", "run_fn:", "setup_fn:")
"""Arguments of operators that are addresses, lines of source code, or DALI's bookkeeping."""


class PipelineState:
    """Takes and restores DALI's checkpoints of one pipeline.

    DALI lets a pipeline have a checkpoint when it is made; a training loop that loads a state has
    made it already. So this asks the backend, which is not public, here and nowhere else. What DALI
    writes is a protobuf message and what it reads is that message: no pickle.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        pipeline.build()
        operators: list[Any] = list(pipeline._ops or ())
        self._backend: Any = pipeline._pipe
        self._keeps = bool(pipeline._enable_checkpointing)
        self._operators = {op.name: _description(op.spec) for op in operators}
        self._draws = any(map(_has_state, operators))
        self._warned = False

    def checkpoint(self) -> bytes | None:
        """What comes after the batch that DALI handed out last; None without checkpointing."""
        if not self._keeps:
            return None
        context = backend_impl.ExternalContextCheckpoint()
        return bytes(self._backend.GetSerializedCheckpoint(context))

    def restore(self, checkpoint: bytes | None) -> None:
        """Go on behind a checkpoint, or from where DALI is for None. No batch may be in flight.

        Raises `StateError`, and leaves the pipeline as it was, where DALI does not take it.
        """
        if checkpoint is None:
            return
        before = self.checkpoint()
        try:
            self._backend.RestoreFromSerializedCheckpoint(checkpoint)
            if self.checkpoint() != checkpoint:
                raise ValueError("it reads back otherwise")
        except (RuntimeError, ValueError) as error:
            self._backend.RestoreFromSerializedCheckpoint(before)
            raise StateError(f"DALI does not accept the state's checkpoint: {error}") from error

    def to_dict(self, checkpoint: bytes | None) -> dict[str, Any]:
        """A checkpoint in plain values, with what it belongs to."""
        if self._draws and not self._keeps and not self._warned:
            self._warned = True
            logger.warning(
                "the state does not hold what the pipeline's random operators draw next, because "
                "the pipeline was made without enable_checkpointing=True: a resumed run gets the "
                "same crops, augmented otherwise"
            )
        text = None if checkpoint is None else base64.b64encode(checkpoint).decode("ascii")
        return {"dali": _VERSION, "operators": dict(self._operators), "checkpoint": text}

    def from_dict(self, values: object) -> bytes | None:
        """The checkpoint in `to_dict`'s values.

        Raises `StateError`, saying all that differs, where it is of another pipeline.
        """
        differing = list(self._differences(values))
        if differing:
            raise StateError(
                f"the state belongs to another pipeline; {_WAY_OUT}. "
                "What differs: " + "; ".join(differing)
            )
        text = part(values, "checkpoint", "pipeline")
        if not isinstance(text, str | None):
            raise damaged("the pipeline's checkpoint", "base64 text", text)
        if text is not None and not self._keeps:
            raise StateError(
                "the state holds what the pipeline's random operators draw next, but this "
                f"pipeline cannot go on from it: make it with enable_checkpointing=True, or, "
                f"{_WAY_OUT}"
            )
        if text is None and self._draws:
            logger.warning(
                "the state holds no random numbers of the pipeline, which was made without "
                "enable_checkpointing=True: the saved run's crops come, augmented otherwise"
            )
        try:
            return None if text is None else base64.b64decode(text, validate=True)
        except ValueError as error:
            raise StateError(f"the state's checkpoint is no base64 text: {error}") from error

    def _differences(self, values: object) -> list[str]:
        version = part(values, "dali", "pipeline")
        if version != _VERSION:
            return [f"DALI: saved {version}, here {_VERSION}"]
        saved, here = mapping(part(values, "operators", "pipeline"), "operators"), self._operators
        return [
            f"operator {name}: saved {saved.get(name)!r}, here {here.get(name)!r}"
            for name in dict.fromkeys([*saved, *here])
            if saved.get(name) != here.get(name)
        ]


def _has_state(operator: Any) -> bool:
    """Whether what an operator does depends on the batches before; a source's place is ours."""
    schema = operator._op.schema
    return bool(schema.IsStateful()) and schema.Name() != "ExternalSource"


def _description(spec: Any) -> str:
    """Kind, inputs and arguments of an operator; equal in every process that makes the pipeline."""
    lines = [line.strip() for line in str(spec).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(_OF_ONE_PROCESS))
