"""The rings that a GPU reads: in its own memory, or shared memory that is mapped for it."""

from __future__ import annotations

from cupy.cuda.runtime import CUDARuntimeError

from pydmed_dali.dali.cuda import CudaCopier, Pinned, allocate, free_gpu_memory, gpu_images
from pydmed_dali.dali.device import Device
from pydmed_dali.dali.image_list import Images
from pydmed_dali.dali.rings import HostRing, RingNeed, StagedRing
from pydmed_dali.errors import OptionError, RingMemoryError
from pydmed_dali.ring.arena import Arena
from pydmed_dali.ring.layout import Layout
from pydmed_dali.text import format_gib


def device_ring(need: RingNeed) -> StagedRing:
    """A ring in GPU memory: what is resident crosses to the GPU once and is cropped there."""
    free = free_gpu_memory(need.gpu)
    refuse_gpu_overrun(need.layout, free, need.gpu_memory_share, need.gpu)
    memory = allocate(need.layout.ring_bytes, need.gpu)
    images, masks = gpu_images(memory.ptr, memory, need.layout, need.slots_per_image, need.gpu)

    def open_copier(staging: Arena) -> CudaCopier:
        return CudaCopier(staging, memory, need.layout, need.gpu)

    return StagedRing(need, "gpu", images, open_copier, masks)


def refuse_gpu_overrun(layout: Layout, free: int, share: float, gpu: int) -> None:
    """Raise `RingMemoryError` where the ring would leave the model less than its part."""
    room = int(free * share)
    if layout.ring_bytes > room:
        raise RingMemoryError(
            f"the ring needs {format_gib(layout.ring_bytes)} of GPU memory ({layout.description}), "
            f"but gpu_memory_share={share:g} of the {format_gib(free)} that are "
            f"free on GPU {gpu} is {format_gib(room)}; lower "
            f"{layout.limiting_option}, resident, batch_size or num_workers, raise "
            "gpu_memory_share, or use residency='mapped' or 'host'"
        )


class MappedRing(HostRing):
    """Shared memory that workers write, and from which the GPU pulls the bytes of crops itself."""

    backend: Device = "gpu"

    def list_images(self, need: RingNeed) -> tuple[Images, Images | None]:
        """Images and masks at the addresses that the GPU has for them."""
        try:
            pinned = Pinned(self.worker_memory.memory, need.gpu)
        except CUDARuntimeError as error:
            raise OptionError(
                f"residency='mapped' needs shared memory that CUDA maps for GPU {need.gpu}, and "
                f"CUDA refuses ({error}); use residency='device' or 'host'"
            ) from error
        for slot in range(need.layout.slots):
            self.worker_arena.mark_filled(slot)  # registering takes all of the memory
        return gpu_images(pinned.pointer, pinned, need.layout, need.slots_per_image, need.gpu)
