"""NIfTI volumes, read by nibabel (extra `volumes`)."""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import SlideFormatError, SlideReadError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.file_identity import check_regular_file
from pydmed_dali.slide.limits import MOST_PIXELS_A_SIDE, believable_mpp
from pydmed_dali.slide.pixel_format import PixelFormat
from pydmed_dali.slide.slide import WHITE, SlideFacts

MOST_UNPACKED = 4 * 2**30
"""Bytes that a compressed file may unpack to, all of which a process keeps in memory."""
_LONGEST_HEADER = 540  # bytes, of NIfTI-2
_MOST_PACKED = 1100  # bytes that one byte of deflate can hold; 1,032 by its format
_MOST_BEHIND = _PIECE = 2**20  # bytes behind the voxels that are put up with, and read at once

_MICROMETRES = {"meter": 1e6, "mm": 1e3, "micron": 1.0}
"""In one unit of a header's spacing."""


class NiftiVolume:
    """A volume as the `Volume` protocol has it: x, y and z are the file's first three axes.

    So voxel (x, y, z) is `nibabel.load(path).dataobj[x, y, z]`, whatever way the file's affine
    turns it; a slice has all voxels of one z. A fourth axis is the channels'. `facts.mpp` has
    micrometres per voxel in x and y.

    Of a plain file, slices are read where they lie, rows whole; a compressed one is unpacked to its
    end, so that its checksum is compared, and kept as it is stored while it is open.
    """

    def __init__(
        self, path: Path, pixel: PixelFormat, max_unpacked_bytes: int = MOST_UNPACKED
    ) -> None:
        """Raises `SlideFormatError` for what is no NIfTI file, has voxels other than `pixel`, or is
        compressed and unpacks to more than `max_unpacked_bytes` or than its header tells.
        """
        nibabel = _nibabel()
        check_regular_file(path)
        self.path, self._pixel = path, pixel
        try:
            is_packed = path.suffix.lower() == ".gz"
            # First, so that nothing of more than these bytes is read by the header's word.
            data = _unpacked(path, max_unpacked_bytes, nibabel) if is_packed else None
            image = nibabel.load(path, keep_file_open=True)
            self._check(image, nibabel)
            if data is not None:
                image = type(image).from_stream(io.BytesIO(data))
            else:
                _check_length(_length(image.dataobj), path.stat().st_size)
            self._voxels = image.dataobj
            spacing = [float(each) for each in image.header.get_zooms()[:2]]
            unit = image.header.get_xyzt_units()[0]
        except SlideFormatError:
            raise
        except Exception as error:  # nibabel raises whatever a damaged header leads it to
            raise SlideFormatError(f"{path}: nibabel cannot open it ({error})") from error
        self.depth = int(image.shape[2])
        size = _MICROMETRES.get(unit, _MICROMETRES["mm"])
        self.facts = SlideFacts(
            level_dimensions=(Size(int(image.shape[0]), int(image.shape[1])),),
            level_downsamples=(1.0,),
            tile_sizes=(None,),
            mpp=believable_mpp(spacing[0] * size, spacing[1] * size),
            objective_power=None,
            background=WHITE,
            vendor="nifti",
            reader=f"nibabel {nibabel.__version__}",
        )

    def slice(self, number: int) -> NiftiSlice:
        """See `Volume.slice`."""
        return NiftiSlice(self, number)

    def read_into(self, out: NDArray[Any], location: Point, level: int) -> None:
        """Raises `SlideReadError`: a volume has no pixels but those of its slices."""
        raise SlideReadError(f"{self.path} is a volume: give the source a crop_depth")

    def read_box(self, x: range, y: range, z: int) -> NDArray[Any]:
        """(height, width, channels) of voxels inside the volume; of the type that was asked for."""
        # Whole rows are one read of the file; a row of `x` each would be as many as there are rows.
        found = np.asarray(self._voxels[:, y.start : y.stop, z])[x.start : x.stop]
        if found.ndim == 2:
            found = found[..., None]
        return found.transpose(1, 0, 2).astype(self._pixel.dtype, copy=False)

    def close(self) -> None:
        """Release the file."""
        self._voxels = None

    def _check(self, image: Any, nibabel: Any) -> None:
        if not isinstance(image, nibabel.Nifti1Image):  # of which NIfTI-2 is a subclass
            raise SlideFormatError(
                f"{self.path}: it is {type(image).__name__} to nibabel, where .nii or .nii.gz was "
                "expected; convert it, or write a loader of your own"
            )
        shape = tuple(int(side) for side in image.shape)
        channels = shape[3] if len(shape) == 4 else 1
        if len(shape) not in (3, 4) or channels != self._pixel.channels:
            raise SlideFormatError(
                f"{self.path}: it has the shape {shape}, where (x, y, z) and, as a fourth "
                f"axis, {self._pixel.channels} channels were expected; give NiftiLoader a "
                "PixelFormat with its channels"
            )
        if not all(1 <= side <= MOST_PIXELS_A_SIDE for side in shape):
            raise SlideFormatError(
                f"{self.path}: its header claims the shape {shape}; an axis has 1 to "
                f"{MOST_PIXELS_A_SIDE:,} voxels"
            )
        stored, scaled = image.get_data_dtype(), (image.dataobj.slope, image.dataobj.inter)
        if stored.kind not in "iuf":
            raise SlideFormatError(
                f"{self.path}: its voxels are {stored}; integers or real numbers were expected: "
                "write the parts that you need as channels, the fourth axis"
            )
        if self._pixel.dtype == "float32":
            return
        if scaled != (1.0, 0.0) or not np.can_cast(stored, self._pixel.dtype):
            scale = "" if scaled == (1.0, 0.0) else f", scaled by {scaled[0]:g} and {scaled[1]:g}"
            raise SlideFormatError(
                f"{self.path}: its voxels are {stored.name}{scale}, which {self._pixel.dtype} "
                "cannot hold; ask NiftiLoader for float32"
            )


class NiftiSlice:
    """One slice of a volume, as a slide; outside of it there are zeros."""

    def __init__(self, volume: NiftiVolume, number: int) -> None:
        self._volume, self._number = volume, number
        self.path, self.facts = volume.path, volume.facts

    def read_into(self, out: NDArray[Any], location: Point, level: int) -> None:
        """See `Slide.read_into`."""
        size = self.facts.dimensions
        x = range(max(location.x, 0), min(location.x + out.shape[1], size.width))
        y = range(max(location.y, 0), min(location.y + out.shape[0], size.height))
        if (len(y), len(x)) != out.shape[:2]:
            out[:] = 0
        if x and y:
            inside = out[y.start - location.y :, x.start - location.x :]
            inside[: len(y), : len(x)] = self._volume.read_box(x, y, self._number)

    def close(self) -> None:
        """Nothing: the volume is closed."""


def _unpacked(path: Path, most: int, nibabel: Any) -> bytes | None:
    """What a compressed file holds, of the length that its header tells; None for another format.

    Raises `ValueError` for more than `most` bytes, and for a file that holds less or more than its
    header tells; and what gzip does for data that fails its checksum.
    """
    with gzip.open(path) as file:
        wanted = _told_length(file.read(_LONGEST_HEADER), nibabel)
        if wanted is None:
            return None
        if wanted > most:
            raise ValueError(
                f"by its header it unpacks to {wanted:,} bytes, and at most {most:,} are taken "
                "into memory: unpack it beforehand, or give NiftiLoader max_unpacked_bytes"
            )
        length = path.stat().st_size
        if wanted > length * _MOST_PACKED:
            raise ValueError(
                f"by its header it unpacks to {wanted:,} bytes, but {length:,} bytes of gzip hold "
                f"at most {_MOST_PACKED:,} times as many: the header is damaged"
            )
        file.seek(0)
        data = file.read(wanted)
        _check_length(wanted, len(data))
        more = 0
        while piece := file.read(_PIECE):  # to the end, where the checksum stands
            more += len(piece)
            if more > _MOST_BEHIND:
                raise ValueError(
                    f"it unpacks to more than the {wanted:,} bytes that it has by its header"
                )
    return data


def _told_length(begin: bytes, nibabel: Any) -> int | None:
    """How many bytes a file has that begins so; None where it is no NIfTI file with voxels."""
    kinds = ((nibabel.Nifti1Header, 348), (nibabel.Nifti2Header, 540))
    sizes = {int.from_bytes(begin[:4], order) for order in ("little", "big")}
    for kind, length in kinds:
        if length in sizes and len(begin) >= length:
            header = kind(begin[:length], check=False)
            shape = [int(side) for side in header.get_data_shape()]
            if all(1 <= side <= MOST_PIXELS_A_SIDE for side in shape):
                offset, size = int(header.get_data_offset()), int(header.get_data_dtype().itemsize)
                return offset + math.prod(shape) * size
    return None


def _length(voxels: Any) -> int:
    """How many bytes a file must have, by its header."""
    return int(voxels.offset + math.prod(voxels.shape) * voxels.dtype.itemsize)


def _check_length(wanted: int, found: int) -> None:
    """Raise `ValueError` for a file that ends too early; else only its last slices would tell."""
    if found < wanted:
        raise ValueError(f"it ends after {found:,} bytes; by its header it has {wanted:,}")


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise SlideFormatError(
            "NIfTI volumes need nibabel: pip install -c constraints.txt '.[volumes]'"
        ) from error
    return nibabel
