"""The limits of cropping: a bare gather of the same crops, and the bandwidth of plain copies.

On a GPU a CuPy kernel, compiled where NVRTC is; on the CPU numpy slices. Nothing else is compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pydmed_dali import Size

# A thread writes four bytes at a time. Crops begin at any byte, so it takes them from the two words
# that hold them. Rows whose length is no multiple of four are copied byte by byte.
_KERNEL = """
extern "C" __global__ void gather(const unsigned char* pool, const long long* place,
                                  unsigned char* out, int row, int height, int pitch) {
    const unsigned char* source = pool + place[blockIdx.x];
    unsigned char* target = out + (long long)blockIdx.x * row * height;
    int words = row % 4 ? 0 : row / 4;
    for (int y = blockIdx.y; y < height; y += gridDim.y) {
        const unsigned char* from = source + (long long)y * pitch;
        unsigned char* to = target + (long long)y * row;
        int shift = 8 * (int)((size_t)from & 3);
        const unsigned* in = (const unsigned*)(from - shift / 8);
        for (int i = threadIdx.x; i < words; i += blockDim.x) {
            unsigned low = in[i], high = shift ? in[i + 1] : 0;
            ((unsigned*)to)[i] = __funnelshift_r(low, high, shift);
        }
        for (int i = 4 * words + threadIdx.x; i < row; i += blockDim.x) to[i] = from[i];
    }
}
"""
_IN_A_ROW = 50
"""Launches on a GPU before it is waited for, so that the wait is not what is measured."""


def rate_of(
    action: Callable[[], object],
    seconds: float,
    finish: Callable[[], object] = lambda: None,
    in_a_row: int = 1,
) -> float:
    """How often a second `action` is done, after one that is not counted.

    `finish`, after so many of them `in_a_row`, waits for those that were only begun.
    """
    action()
    finish()
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for _ in range(in_a_row):
            action()
        finish()
        count += in_a_row
    return count / (time.perf_counter() - begun)


def copy_bandwidth(device: str, nbytes: int, seconds: float) -> float:
    """Bytes read and written a second by a plain copy within the memory that crops lie in."""
    if device == "cpu":
        # Written to: what only reads as zero is one page of the system's, again and again.
        source, target = np.ones((2, nbytes), np.uint8)
        return 2 * nbytes * rate_of(lambda: np.copyto(target, source), seconds)
    from cupy.cuda import Memory, runtime

    there, here = Memory(nbytes), Memory(nbytes)
    return 2 * nbytes * _copy_rate(there, here, runtime.memcpyDeviceToDevice, nbytes, seconds)


def upload_bandwidth(nbytes: int, seconds: float) -> float:
    """Bytes a second that cross from pinned host memory to the GPU."""
    from cupy.cuda import Memory, alloc_pinned_memory, runtime

    there, here = Memory(nbytes), alloc_pinned_memory(nbytes)
    return nbytes * _copy_rate(there, here, runtime.memcpyHostToDevice, nbytes, seconds)


def _copy_rate(target: Any, source: Any, kind: int, nbytes: int, seconds: float) -> float:
    from cupy.cuda import runtime

    def copy() -> None:
        runtime.memcpyAsync(target.ptr, source.ptr, nbytes, kind, 0)

    return rate_of(copy, seconds, runtime.deviceSynchronize, _IN_A_ROW)


def gather_rate(
    device: str, chunks: int, chunk: Size, crop: Size, batch: int, seconds: float
) -> float:
    """Crops a second of a bare gather. Raises on a GPU where kernels cannot be compiled."""
    rng = np.random.default_rng(0)
    which = rng.integers(chunks, size=batch)
    y = rng.integers(chunk.height - crop.height + 1, size=batch)
    x = rng.integers(chunk.width - crop.width + 1, size=batch)
    if device == "cpu":
        ring = np.ones((chunks, chunk.height, chunk.width, 3), np.uint8)
        taken = np.empty((batch, crop.height, crop.width, 3), np.uint8)

        def slice_all() -> None:
            for i in range(batch):
                taken[i] = ring[which[i], y[i] : y[i] + crop.height, x[i] : x[i] + crop.width]

        return batch * rate_of(slice_all, seconds)
    import cupy

    kernel = cupy.RawKernel(_KERNEL, "gather")
    kernel.compile()
    pitch = chunk.width * 3
    pool = cupy.empty(chunks * chunk.height * pitch, np.uint8)
    out = cupy.empty(batch * crop.area * 3, np.uint8)
    place = cupy.asarray((which * chunk.height + y) * pitch + x * 3, np.int64)
    arguments = (
        pool, place, out, np.int32(crop.width * 3), np.int32(crop.height), np.int32(pitch),
    )  # fmt: skip
    grid, block = (batch, min(crop.height, 32)), (192,)
    finish = cupy.cuda.runtime.deviceSynchronize
    return batch * rate_of(lambda: kernel(grid, block, arguments), seconds, finish, _IN_A_ROW)
