"""The public face of the package."""

from __future__ import annotations

import inspect

import pytest

import pydmed_dali
from pydmed_dali import errors


def test_all_names_are_there_sorted_and_documented() -> None:
    assert pydmed_dali.__all__ == sorted(pydmed_dali.__all__)
    for name in pydmed_dali.__all__:
        assert inspect.getdoc(getattr(pydmed_dali, name)), name
    assert set(pydmed_dali.__all__) <= set(dir(pydmed_dali))


def test_the_names_are_these() -> None:
    assert set(pydmed_dali.__all__) == {
        "Annotation",
        "Annotations",
        "BigChunkLoader",
        "BigChunkSource",
        "Dataset",
        "InfoColumn",
        "MacenkoStain",
        "NiftiLoader",
        "Patient",
        "PixelFormat",
        "Point",
        "PydmedError",
        "Record",
        "ReinhardStain",
        "Report",
        "Size",
        "Slide",
        "SlideFacts",
        "CropInfo",
        "SmallChunkIterator",
        "Stats",
        "TiffLoader",
        "TileSource",
        "View",
        "Visit",
        "Volume",
        "classes_at",
        "measure_stain",
        "pipeline_def",
        "measure_tissue",
        "rasterize",
        "read_annotations",
        "require_classes",
    }


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = pydmed_dali.Nonsense


def test_every_error_is_ours_and_fits_a_builtin() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(kind, errors.PydmedError) for kind in kinds)
    builtins = (ValueError, OSError, MemoryError, RuntimeError)
    assert all(issubclass(k, builtins) for k in kinds if k is not errors.PydmedError)
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__), "the tree in the module's docstring"
