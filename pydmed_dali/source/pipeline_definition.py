"""`pipeline_def` for functions that take a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, overload

import nvidia.dali
from nvidia.dali import Pipeline

from pydmed_dali.errors import OptionError, SourceError
from pydmed_dali.source.base import BaseSource
from pydmed_dali.source.pipeline_binding import name_outputs
from pydmed_dali.text import closest_match, shorten_list

Definition = Callable[..., Any]
Maker = Callable[..., Pipeline]
Outputs = Sequence[str] | Callable[..., Sequence[str]]

_BESIDE = {"debug", "enable_conditionals", "checkpoint"}  # what DALI's decorator takes as well


@overload
def pipeline_def(function: Definition, /) -> Maker: ...
@overload
def pipeline_def(
    *, outputs: Outputs | None = None, **options: Any
) -> Callable[[Definition], Maker]: ...
def pipeline_def(
    function: Definition | None = None, /, *, outputs: Outputs | None = None, **options: Any
) -> Maker | Callable[[Definition], Maker]:
    """Decorate a function that defines a DALI pipeline over a source.

    This is `nvidia.dali.pipeline_def` with batch size, device, threads, seed and prefetch depth
    taken from the source, which the function takes as its first argument. Checkpointing is on, so
    that a saved state holds what random operators draw next. The function may also be decorated
    with DALI's own `pipeline_def` and called with `**source.pipeline_options`.

    Args:
        function: The function that is decorated; it returns the pipeline's outputs.
        outputs: The names of the outputs, in the order in which the function returns them, for
            `SmallChunkIterator`. A callable gets the function's own arguments behind the source,
            as keywords and with their defaults, and returns the names. None leaves the names to
            the iterator's `output_map`.
        **options: Options of `nvidia.dali.pipeline_def`. They override those of the source, and
            options given in the call override both.

    Returns:
        A function that takes a source, and returns its pipeline.

    Raises:
        OptionError: In the call, an option is unknown.
        SourceError: In the call, the first argument is no source.

    Example:
        >>> from nvidia.dali import fn
        >>> from pydmed_dali import pipeline_def
        >>> @pipeline_def(outputs=("image", "label", "info"))
        ... def blurred(source, sigma=1.0):
        ...     crops = source.small_chunks()
        ...     return fn.gaussian_blur(crops.image, sigma=sigma), crops.label, crops.info
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
            bound = source._bound_pipeline
            try:
                pipeline: Pipeline = define(source, *args, **chosen)
            except BaseException:
                if source._bound_pipeline is not bound:
                    source._unbind()  # so that a definition can be mended and tried again
                raise
            if outputs is not None:
                name_outputs(pipeline, _names(outputs, function, source, args, kwargs))
            return pipeline

        return create_pipeline

    return decorate if function is None else decorate(function)


def _names(
    outputs: Outputs,
    function: Definition,
    source: BaseSource,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[str, ...]:
    """The names of a pipeline's outputs, which may depend on the function's arguments."""
    if not callable(outputs):
        return tuple(outputs)
    known = signature(function).parameters
    own = {name: value for name, value in kwargs.items() if name in known}
    bound = signature(function).bind(source, *args, **own)
    bound.apply_defaults()
    return tuple(outputs(**dict(list(bound.arguments.items())[1:])))


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
