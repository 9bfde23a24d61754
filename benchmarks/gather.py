"""The limits of cropping: a bare gather of the same crops, and the memory's copy bandwidth.

On a GPU a CuPy kernel, one thread a byte, compiled where NVRTC is; on the CPU numpy slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pydmed_dali import Size

_KERNEL = """
extern "C" __global__ void gather(const unsigned char* pool, const long long* place,
                                  unsigned char* out, int row, int height, int pitch) {
    long long crop = blockIdx.x;
    const unsigned char* source = pool + place[crop];
    unsigned char* target = out + crop * row * height;
    for (int y = blockIdx.y; y < height; y += gridDim.y)
        for (int i = threadIdx.x; i < row; i += blockDim.x)
            target[(long long)y * row + i] = source[(long long)y * pitch + i];
}
"""


def rate_of(action: Callable[[], object], finish: Callable[[], object], seconds: float) -> float:
    """How often a second `action` is done, `finish` included, after one that is not counted."""
    action()
    finish()
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        action()
        finish()
        count += 1
    return count / (time.perf_counter() - begun)


def copy_bandwidth(device: str, nbytes: int, seconds: float) -> float:
    """Bytes read and written a second by a plain copy within the memory that crops lie in."""
    xp, finish = _backend(device)
    source, target = xp.ones(nbytes, np.uint8), xp.ones(nbytes, np.uint8)
    return 2 * nbytes * rate_of(lambda: xp.copyto(target, source), finish, seconds)


def gather_rate(
    device: str, chunks: int, chunk: Size, crop: Size, batch: int, seconds: float
) -> float:
    """Crops a second of a bare gather. Raises on a GPU where kernels cannot be compiled."""
    xp, finish = _backend(device)
    pool = xp.ones((chunks, chunk.height, chunk.width, 3), np.uint8)
    out = xp.empty((batch, crop.height, crop.width, 3), np.uint8)
    rng = np.random.default_rng(0)
    which = rng.integers(chunks, size=batch)
    y = rng.integers(chunk.height - crop.height + 1, size=batch)
    x = rng.integers(chunk.width - crop.width + 1, size=batch)
    if device == "cpu":

        def gather() -> None:
            for i in range(batch):
                out[i] = pool[which[i], y[i] : y[i] + crop.height, x[i] : x[i] + crop.width]

        return batch * rate_of(gather, finish, seconds)
    kernel = xp.RawKernel(_KERNEL, "gather")
    kernel.compile()
    pitch = chunk.width * 3
    place = xp.asarray((which * chunk.height + y) * pitch + x * 3, np.int64)
    arguments = (
        pool, place, out, np.int32(crop.width * 3), np.int32(crop.height), np.int32(pitch),
    )  # fmt: skip
    grid, block = (batch, min(crop.height, 32)), (256,)
    return batch * rate_of(lambda: kernel(grid, block, arguments), finish, seconds)


def _backend(device: str) -> tuple[Any, Callable[[], object]]:
    if device == "cpu":
        return np, lambda: None
    import cupy

    return cupy, cupy.cuda.runtime.deviceSynchronize
