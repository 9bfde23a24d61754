"""The ring as DALI sees it: one list of images, built once, that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from nvidia.dali.backend import TensorCPU, TensorListCPU, TensorListGPU

from pydmed_dali.plan.depth import Depth
from pydmed_dali.ring.arena import Arena
from pydmed_dali.ring.layout import Layout

Images: TypeAlias = TensorListCPU | TensorListGPU
"""The slots in address order, then pad rows until the list holds one image per crop of a batch.

`multi_paste` takes as many images as it gives out. Where there are more slots than that,
neighbouring slots form one taller image. The images are not copied: DALI reads the ring itself.
"""


def host_images(arena: Arena, slots_per_image: int) -> TensorListCPU:
    """The images of a host arena."""
    carried = arena.layout.pixel.carried
    return _as_list([image.view(carried) for image in arena.images(slots_per_image)])


def host_masks(arena: Arena, slots_per_image: int) -> TensorListCPU | None:
    """The masks of a host arena, as images of one channel; None where it has none."""
    masks = arena.masks(slots_per_image)
    return _as_list(masks) if masks else None


def _as_list(images: Sequence[NDArray[Any]]) -> TensorListCPU:
    tensors = [TensorCPU(image, layout="HWC") for image in images]
    return TensorListCPU(tensors, layout="HWC", contiguous=False)


class RingImages:
    """Where in the list of images a slot lies, and in it a crop."""

    def __init__(
        self, layout: Layout, slots_per_image: int, slice_height: int, depth: Depth | None
    ) -> None:
        """In a slot the slices of a volume lie `slice_height` rows apart."""
        self._layout, self._slots_per_image = layout, slots_per_image
        slices = np.arange(1 if depth is None else depth.crop, dtype=np.int32)
        self._down = slices * np.int32(slice_height)

    @property
    def pastes(self) -> int:
        """D: images that a crop is put together of, one below the other."""
        return len(self._down)

    def address(
        self, slots: NDArray[np.int64], crops: NDArray[np.int64], anchors: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(in_ids (N, D), in_anchors (N, D, 2) (y, x)) of the crops of these numbers in `slots`,
        which lie at `anchors` (N, 2) in their chunks.

        D is 1, or the slices of a crop of a volume.
        """
        layout = self._layout
        if layout.packed is not None:
            anchors = np.zeros_like(anchors)
            anchors[:, 0] = crops * layout.packed.height
        images, place = np.divmod(slots, self._slots_per_image)
        moved = np.repeat(anchors[:, None], len(self._down), axis=1)
        moved[:, :, 0] += (place * layout.slot.height).astype(np.int32)[:, None] + self._down
        return np.repeat(images.astype(np.int32)[:, None], len(self._down), axis=1), moved
