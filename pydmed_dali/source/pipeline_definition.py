"""`pipeline_def` for functions that take a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import signature
from typing import Any, overload

import nvidia.dali
from nvidia.dali import Pipeline

from pydmed_dali.errors import OptionError, SourceError
from pydmed_dali.source.base import BaseSource
from pydmed_dali.text import closest_match, shorten_list

Definition = Callable[..., Any]
Maker = Callable[..., Pipeline]

_BESIDE = {"debug", "enable_conditionals", "checkpoint"}  # what DALI's decorator takes as well


@overload
def pipeline_def(function: Definition, /) -> Maker: ...
@overload
def pipeline_def(**options: Any) -> Callable[[Definition], Maker]: ...
def pipeline_def(
    function: Definition | None = None, /, **options: Any
) -> Maker | Callable[[Definition], Maker]:
    """`nvidia.dali.pipeline_def`, with batch size, device, threads, seed and prefetch depth taken
    from the source, which the decorated function gets as its first argument, and checkpointing, so
    that a saved state holds what random operators draw next.

    Options given here come before the source's, and options given in the call before both. The
    function may also be decorated with DALI's own `pipeline_def` and called with
    `**source.pipeline_options`.
    """

    def decorate(function: Definition) -> Maker:
        define = nvidia.dali.pipeline_def(function, **options)

        @wraps(function)
        def create_pipeline(source: BaseSource, *args: Any, **kwargs: Any) -> Pipeline:
            if not isinstance(source, BaseSource):
                raise SourceError(
                    f"{function.__name__} takes a BigChunkSource as its first argument, not "
                    f"{source!r}"
                )
            _refuse_unknown(function, kwargs)
            chosen = {**source.pipeline_options, **options, **kwargs}
            bound = source.bound_pipeline
            try:
                pipeline: Pipeline = define(source, *args, **chosen)
            except BaseException:
                if source.bound_pipeline is not bound:
                    source.unbind()  # so that a definition can be mended and tried again
                raise
            return pipeline

        return create_pipeline

    return decorate if function is None else decorate(function)


def _refuse_unknown(function: Definition, given: Iterable[str]) -> None:
    """Raise `OptionError` for an option that neither the function nor DALI's pipeline has."""
    own = signature(function).parameters
    dali = {*signature(Pipeline.__init__).parameters, *_BESIDE} - {"self"}
    unknown = sorted({*given} - {*own} - dali)
    if unknown:
        names = [*own][1:]  # behind the source
        meant = closest_match(unknown[0], [*names, *dali])
        raise OptionError(
            f"{function.__name__} has no option {shorten_list(unknown)}"
            + (f"; did you mean {meant}?" if meant else ".")
            + f" It has {', '.join(names) or 'none of its own'}, and those of "
            "nvidia.dali.pipeline_def, such as num_threads"
        )
