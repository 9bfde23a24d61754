"""Headers of DICOM files, and where real ones lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset as Elements
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    VLWholeSlideMicroscopyImageStorage,
)

SLIDE, CT = VLWholeSlideMicroscopyImageStorage, CTImageStorage
REAL = Path(__file__).parents[4] / "shared" / "more-slides" / "dicom"


def real_dicom() -> Path:
    """The folder of real DICOM slides, which the project does not ship."""
    if not REAL.is_dir():
        pytest.skip(f"no real DICOM slides at {REAL}")
    return REAL


def write_header(path: Path, series: str, kind: str = "VOLUME", sop_class: UID = SLIDE) -> Path:
    """A DICOM file without pixels, of a series ("1" is 1.2.1), as far as listing looks at it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    elements = Elements()
    elements.SOPClassUID = sop_class
    elements.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    if series:
        elements.SeriesInstanceUID = f"1.2.{series}"
    elements.ImageComments = "x" * 5000  # lies behind the series, and need not be read
    file = FileDataset(str(path), elements, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(path, enforce_file_format=True)
    return path
