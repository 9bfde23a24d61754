"""CUDA through CuPy, for memory, streams and events only: no kernel is compiled.

All of CuPy that a source uses is in this module.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any

import cupy
import numpy as np
from cupy.cuda import runtime
from numpy.typing import NDArray
from nvidia.dali.backend import TensorGPU, TensorListGPU

from pydmed_dali.errors import RingMemoryError
from pydmed_dali.geometry import Region
from pydmed_dali.ring.arena import Arena
from pydmed_dali.ring.layout import Layout
from pydmed_dali.text import format_gib

logger = logging.getLogger("pydmed_dali.dali")

_PORTABLE, _MAPPED = 1, 2  # cudaHostRegister's flags


def free_gpu_memory(gpu: int) -> int:
    """Bytes that are free on a GPU."""
    with cupy.cuda.Device(gpu):
        return int(runtime.memGetInfo()[0])


def allocate(nbytes: int, gpu: int) -> Any:
    """Memory of a GPU, given back when the last reference to it goes; `ptr` is its address.

    From the driver itself, so that no pool of CuPy's keeps it. Raises `RingMemoryError`.
    """
    try:
        with cupy.cuda.Device(gpu):
            return cupy.cuda.Memory(nbytes)
    except runtime.CUDARuntimeError as error:
        raise RingMemoryError(
            f"the ring needs {format_gib(nbytes)} of memory on GPU {gpu}, which CUDA does not give "
            f"({error}); lower chunk_size or resident, or use residency='host'"
        ) from error


class GpuImage:
    """An image in memory that a GPU reads, as others take it; keeps its owner alive."""

    def __init__(
        self, pointer: int, shape: tuple[int, int, int], dtype: str, owner: object
    ) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": np.dtype(dtype).str,
            "data": (pointer, False),
            "strides": None,
            "version": 3,
        }


def gpu_images(
    pointer: int, owner: object, layout: Layout, slots_per_image: int, gpu: int
) -> tuple[TensorListGPU, TensorListGPU | None]:
    """(images, masks) of a ring that begins at `pointer`; they hold on to `owner`.

    DALI shares them, and copies nothing, because each begins where the one before it ends. Without
    masks in the layout there are none.
    """

    def as_list(places: list[tuple[int, int]], channels: int, dtype: str) -> TensorListGPU:
        tensors = [
            TensorGPU(
                GpuImage(pointer + start, (rows, layout.slot.width, channels), dtype, owner),
                layout="HWC",
                device_id=gpu,
            )
            for start, rows in places
        ]
        return TensorListGPU(tensors, layout="HWC", contiguous=False)

    pixel = layout.pixel
    images = as_list(layout.images(slots_per_image), pixel.channels, pixel.carried)
    if not layout.has_masks:
        return images, None
    return images, as_list(layout.mask_images(slots_per_image), 1, "uint8")


class Pinned:
    """Host memory registered with CUDA: fixed in its place, and readable by GPUs.

    Registered until `release`, or until the last reference to this goes: images that DALI holds
    keep one. Raises CuPy's `CUDARuntimeError` where CUDA does not take the memory.
    """

    def __init__(self, memory: NDArray[np.uint8], gpu: int) -> None:
        address = memory.ctypes.data
        with cupy.cuda.Device(gpu):
            runtime.hostRegister(address, memory.nbytes, _PORTABLE | _MAPPED)
            self._finalizer = weakref.finalize(self, _unregister, memory, gpu, os.getpid())
            # At the end of the process the driver undoes it by itself, after DALI's threads ended.
            self._finalizer.atexit = False
            self.pointer = int(runtime.pointerGetAttributes(address).devicePointer)
            """The memory's address for the GPU."""

    def release(self) -> None:
        """Unregister, once no kernel and no copy can read the memory any more."""
        self._finalizer()


def _unregister(memory: NDArray[np.uint8], gpu: int, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child: the registration is not its own
    with cupy.cuda.Device(gpu):
        # A reference can go before the kernel that reads the memory has ended.
        runtime.deviceSynchronize()
        runtime.hostUnregister(memory.ctypes.data)


class Recorded:
    """A copy under way, seen by an event behind it: a `Ticket`."""

    def __init__(self, stream: Any) -> None:
        # block: the waiting thread sleeps, where it would otherwise spin.
        self._event = cupy.cuda.Event(block=True, disable_timing=True)
        self._event.record(stream)

    def is_done(self) -> bool:
        """See `Ticket.is_done`."""
        return bool(self._event.done)

    def wait(self) -> None:
        """See `Ticket.wait`."""
        self._event.synchronize()


class CudaCopier:
    """Copies staging slots into a ring in GPU memory, on a stream of its own: a `Copier`.

    Asynchronous to the caller where the staging memory could be registered; where not, the copies
    are right, but slower and the caller waits for them.
    """

    def __init__(self, staging: Arena, ring: Any, layout: Layout, gpu: int) -> None:
        """`ring` is GPU memory of `layout`."""
        self._staging, self._ring, self._layout, self._gpu = staging, ring, layout, gpu
        with cupy.cuda.Device(gpu):
            self._stream = cupy.cuda.Stream(non_blocking=True)
        self._pinned: Pinned | None = None
        try:
            self._pinned = Pinned(staging.memory, gpu)
        except runtime.CUDARuntimeError as error:
            logger.warning(
                "CUDA does not register the staging memory (%s); chunks are copied to the GPU more "
                "slowly, in the thread that asks for batches",
                error,
            )

    def copy(self, stage: int, slot: int, box: Region) -> Recorded:
        """See `Copier.copy`."""
        planes = zip(self._staging.layout.planes, self._layout.planes, strict=True)
        with cupy.cuda.Device(self._gpu):
            for (source, pixel), (target, _) in planes:
                row = self._layout.slot.width * pixel
                inside = box.location.y * row + box.location.x * pixel
                whole = row * self._layout.slot.height
                runtime.memcpy2DAsync(
                    self._ring.ptr + target + slot * whole + inside,
                    row,
                    self._staging.memory.ctypes.data + source + stage * whole + inside,
                    row,
                    box.size.width * pixel,
                    box.size.height,
                    runtime.memcpyHostToDevice,
                    self._stream.ptr,
                )
            return Recorded(self._stream)

    def close(self) -> None:
        """See `Copier.close`."""
        self._stream.synchronize()
        if self._pinned is not None:
            self._pinned.release()
            self._pinned = None
