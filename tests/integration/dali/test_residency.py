"""Where a ring lies, as far as it is decided without a GPU."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import nvidia.dali
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvidia.dali.backend import TensorGPU

from pydmed_dali import BigChunkSource, Dataset, Size
from pydmed_dali.dali.cuda import GpuImage
from pydmed_dali.dali.device import gpu_count
from pydmed_dali.dali.gpu_rings import refuse_gpu_overrun
from pydmed_dali.dali.residency import choose_residency
from pydmed_dali.dali.rings import RingNeed
from pydmed_dali.errors import OptionError, RingMemoryError, SourceError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.ring.layout import Layout
from pydmed_dali.source.pipeline_binding import PipelineBinding, refuse_streams

LAYOUT = Layout(slots=10, chunk=Size(1024, 1024), pad_rows=6, crops=4)
NEED = RingNeed(LAYOUT, 1, Size(64, 64), stages=3, gpu=0, gpu_memory_share=0.5)


@pytest.mark.parametrize("asked", ["auto", "host"])
def test_on_the_cpu_the_ring_lies_in_host_memory(coordinates: Dataset, asked: str) -> None:
    with BigChunkSource(
        coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=0, device="cpu",
        residency=asked,
    ) as source:  # fmt: skip
        assert source.residency == "host"
        assert source.pipeline_options["device_id"] is None


@pytest.mark.parametrize("asked", ["device", "mapped"])
def test_a_ring_for_a_gpu_is_refused_on_the_cpu(coordinates: Dataset, asked: str) -> None:
    with pytest.raises(OptionError, match=f"residency='{asked}'.*residency='host' or 'auto'"):
        BigChunkSource(coordinates, batch_size=8, resident=2, device="cpu", residency=asked)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("residency", "gpu", "one of auto, host, device, mapped, not 'gpu'"),
        ("gpu_memory_share", 0, "above 0 and at most 1, not 0"),
        ("gpu_memory_share", 1.5, "above 0 and at most 1, not 1.5"),
    ],
)
def test_options_out_of_range(coordinates: Dataset, option: str, value: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        BigChunkSource(coordinates, **{option: value})


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU, so the ring may lie in its memory")
def test_auto_falls_back_to_the_host_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_residency("auto", "gpu", NEED) == "host"
    assert "because CuPy cannot use GPU 0" in caplog.text


def test_a_ring_that_does_not_leave_the_model_its_part_is_refused() -> None:
    refuse_gpu_overrun(LAYOUT, free=2 * LAYOUT.pixel_bytes, share=0.5, gpu=0)
    words = (
        "the ring needs 0.03 GiB of GPU memory (10 chunks of 1024x1024 pixels), but "
        "gpu_memory_share=0.5 of the 0.06 GiB that are free on GPU 0 is 0.03 GiB; lower chunk_size"
    )
    with pytest.raises(RingMemoryError, match=re.escape(words)):
        refuse_gpu_overrun(LAYOUT, free=2 * LAYOUT.pixel_bytes - 2, share=0.5, gpu=0)


@given(
    slots=st.integers(1, 40),
    together=st.integers(1, 6),
    pad_rows=st.integers(0, 9),
    width=st.integers(1, 50),
    height=st.integers(1, 50),
)
def test_each_image_begins_where_the_one_before_ends(
    slots: int, together: int, pad_rows: int, width: int, height: int
) -> None:
    """What makes DALI share GPU memory instead of copying it."""
    layout = Layout(slots, Size(width, height), pad_rows, 1)
    end = 0
    for start, rows in layout.images(together):
        assert (start, rows > 0) == (end, True)
        end += rows * layout.row_bytes
    assert end == layout.pixel_bytes
    assert len(layout.images(together)) == -(-slots // together) + pad_rows


def test_dalis_images_keep_the_memory_that_they_lie_in() -> None:
    """Its owner is let go of, and gives the memory back, with the last image and not before."""

    class Owner:
        pass

    owner = Owner()
    kept = weakref.ref(owner)
    image = TensorGPU(GpuImage(1 << 40, (4, 4, 3), "uint8", owner), layout="HWC", device_id=0)
    del owner
    gc.collect()
    assert kept() is not None and image.shape() == [4, 4, 3]
    del image
    gc.collect()
    assert kept() is None


def test_a_pipeline_of_another_gpu_is_refused() -> None:
    pipeline = nvidia.dali.Pipeline(8, 1, None, prefetch_queue_depth=2)
    with pytest.raises(SourceError, match="device_id=None, its source works with GPU 1"):
        PipelineBinding(8, 2, gpu=1).bind(pipeline, is_used=False)


def test_outputs_on_a_stream_are_refused(coordinates: Dataset) -> None:
    """They would come before the GPU has read the slots that become free with them."""
    with BigChunkSource(
        coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=0, device="cpu"
    ) as source:
        pipeline = basic(source)
        refuse_streams(pipeline)  # as is done to a pipeline that runs on a GPU
        pipeline.schedule_run()
        for name in ("outputs", "share_outputs"):
            with pytest.raises(SourceError, match="asked for with a cuda_stream"):
                getattr(pipeline, name)(cuda_stream=1)
        assert len(pipeline.outputs()) == 3
