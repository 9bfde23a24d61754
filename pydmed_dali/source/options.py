"""The options of a source, checked before anything is allocated or started."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.machine import refuse_crowd
from pydmed_dali.plan.depth import Depth
from pydmed_dali.ring.layout import Layout
from pydmed_dali.ring.packing import packed_crop
from pydmed_dali.slide.pixel_format import RGB8, PixelFormat
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.stain import METHODS

_MOST_ELEMENTS = 2**31
BALANCES = ("patient", "label", "slide", "tissue")
RESIDENCIES = ("auto", "host", "device", "mapped")


@dataclass(frozen=True, slots=True)
class Options:
    """What `BigChunkSource` was asked for; see there for the meaning of each."""

    chunk: Size
    crop: Size
    batch_size: int
    level: int | None
    mpp: float | None
    magnification: float | None
    default_mpp: float | None
    min_tissue: float | None
    tissue_rules: str | None
    """By which rules tissue is told; None where it is not asked for. See `mask_rules`."""
    computes_masks: bool
    """Whether tissue is to be found in the slides' own pixels."""
    resident: int
    crops_per_chunk: int
    num_workers: int
    seed: int
    balance: str
    weights: tuple[float, ...] | None
    passes: int | None
    rank: int
    world_size: int
    prefetch_depth: int
    residency: str
    gpu_memory_share: float
    on_error: str
    read_timeout: float
    stain_statistics: str | None = None
    pixel: PixelFormat = RGB8
    depth: Depth | None = None
    whole_chunks: bool = False
    """Whether slots hold chunks also where crops are few."""
    mpp_override: float | None = None
    annotated: str | None = None
    """What identifies annotations and classes in a saved state; None without annotations."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_scale()
        if self.min_tissue is not None and not (
            _is_positive(self.min_tissue) and self.min_tissue <= 1
        ):
            raise OptionError(
                "min_tissue must be None or a part of the crop, above 0 and at most 1, not "
                f"{self.min_tissue!r}"
            )
        if self.crop.width > self.chunk.width or self.crop.height > self.chunk.height:
            raise OptionError(
                f"crop_size={self.crop} does not fit in chunk_size={self.chunk}; crops are cut "
                "from inside a chunk, so raise chunk_size (4096 is usual) or lower crop_size"
            )
        self._check_depth()
        elements = self.layout(1).slot.area * self.pixel.channels
        if elements >= _MOST_ELEMENTS:
            each = self.pixel.channels * self.chunk_image.height // self.chunk.height
            largest = math.isqrt((_MOST_ELEMENTS - 1) // each)
            raise OptionError(
                f"chunk_size={self.chunk} has {elements:,} elements; DALI's indices hold less than "
                f"2^31 = {_MOST_ELEMENTS:,}: lower chunk_size ({largest} is the largest square)"
            )
        if self.balance not in BALANCES:
            raise OptionError(f"balance must be one of {BALANCES}, not {self.balance!r}")
        if self.on_error not in ("skip", "raise"):
            raise OptionError(f"on_error must be 'skip' or 'raise', not {self.on_error!r}")
        if self.stain_statistics is not None and self.stain_statistics not in METHODS:
            raise OptionError(
                f"stain_statistics must be None or one of {', '.join(METHODS)}, not "
                f"{self.stain_statistics!r}"
            )
        if not self.pixel.is_rgb8 and (self.stain_statistics or self.computes_masks):
            what = "stain_statistics" if self.stain_statistics else "min_tissue without masks"
            raise OptionError(
                f"{what} needs the colours of slides, 3 x uint8, and the loader delivers "
                f"{self.pixel}; leave it out" + ", or give masks" * self.computes_masks
            )
        if self.residency not in RESIDENCIES:
            raise OptionError(
                f"residency must be one of {', '.join(RESIDENCIES)}, not {self.residency!r}"
            )
        if not _is_positive(self.gpu_memory_share) or self.gpu_memory_share > 1:
            raise OptionError(
                "gpu_memory_share must be a part of the GPU's free memory, above 0 and at most 1, "
                f"not {self.gpu_memory_share!r}"
            )
        if not _is_positive(self.read_timeout):
            raise OptionError(f"read_timeout must be positive seconds, not {self.read_timeout!r}")

    @property
    def scale(self) -> Scale:
        """At which resolution slides are read."""
        return Scale(self.level, self.mpp, self.magnification, self.default_mpp, self.mpp_override)

    @property
    def chunk_image(self) -> Size:
        """Extent of a chunk as one image: of volumes its slices lie one below the other."""
        slices = 1 if self.depth is None else self.depth.chunk
        return Size(self.chunk.width, self.chunk.height * slices)

    @property
    def packed(self) -> Size | None:
        """A crop's extent where slots hold crops instead of the chunk; see `packed_crop`."""
        if self.depth is not None or self.whole_chunks:
            return None
        return packed_crop(self.chunk, self.crop, self.crops_per_chunk)

    def layout(self, slots: int, pad_rows: int = 0, has_masks: bool = False) -> Layout:
        """The layout of a ring of so many slots and pad rows."""
        crops, packed = self.crops_per_chunk, self.packed
        return Layout(slots, self.chunk_image, pad_rows, crops, has_masks, self.pixel, packed)

    def slots_per_image(self, slots: int) -> int:
        """How many neighbouring slots form one image of the pool, which has at most N images."""
        together = -(-slots // self.batch_size)
        layout = self.layout(slots)
        if together * layout.slot.area * self.pixel.channels >= _MOST_ELEMENTS:
            raise OptionError(
                f"batch_size={self.batch_size} is small for a ring of {layout.description}: DALI "
                f"would address {together} of {slots} slots as one image, beyond its limit of 2^31 "
                f"elements; raise batch_size, or lower resident or {layout.limiting_option}"
            )
        return together

    def _check_counts(self) -> None:
        lowest = {
            "batch_size": 1,
            "resident": 1,
            "crops_per_chunk": 1,
            "num_workers": 0,
            "seed": 0,
            "rank": 0,
            "world_size": 1,
            "prefetch_depth": 1,
        }
        for name, least in lowest.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise OptionError(f"{name} must be an int of at least {least}, not {value!r}")
        refuse_crowd(self.num_workers)
        if self.rank >= self.world_size:
            raise OptionError(
                f"rank={self.rank} does not exist among world_size={self.world_size}; ranks are "
                f"0..{self.world_size - 1}"
            )
        if self.passes is not None and (not isinstance(self.passes, int) or self.passes < 1):
            raise OptionError(
                f"passes must be None (endless) or an int of at least 1, not {self.passes!r}"
            )

    def _check_depth(self) -> None:
        if self.depth is None:
            return
        for name, value in (("crop_depth", self.depth.crop), ("chunk_depth", self.depth.chunk)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OptionError(f"{name} must be an int of at least 1, not {value!r}")
        if self.depth.crop > self.depth.chunk:
            raise OptionError(
                f"crop_depth={self.depth.crop} does not fit in chunk_depth={self.depth.chunk}; "
                "raise chunk_depth or lower crop_depth"
            )
        for name in ("min_tissue", "stain_statistics"):
            if getattr(self, name) is not None:
                raise OptionError(f"{name} is for slides; leave it out where crop_depth is given")

    def _check_scale(self) -> None:
        names = ("level", "mpp", "magnification")
        given = [
            f"{name}={getattr(self, name)}" for name in names if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise OptionError(f"{' and '.join(given[:2])} were both given; choose one of them")
        if self.level is not None and (not isinstance(self.level, int) or self.level < 0):
            raise OptionError(f"level must be an int of at least 0, not {self.level!r}")
        for name in ("mpp", "default_mpp", "mpp_override"):
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                raise OptionError(f"{name} must be positive micrometres per pixel, not {value!r}")
        if self.magnification is not None and not _is_positive(self.magnification):
            raise OptionError(
                f"magnification must be a positive number, 20 for 20x, not {self.magnification!r}"
            )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
