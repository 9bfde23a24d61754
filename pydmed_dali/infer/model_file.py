"""What a file that is named as a model holds, by its contents: nothing of it is loaded or run."""

from __future__ import annotations

import pickletools
import zipfile
from enum import Enum
from pathlib import Path

_OLD_SAVE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of torch.save before 1.6: a magic number
_MOST_PICKLE = 1 << 26  # bytes of a pickle that are looked through
_OF_WEIGHTS = ("torch._utils _rebuild_", "collections OrderedDict", "torch._tensor _rebuild_")


class Held(Enum):
    """What a file holds."""

    SCRIPT = "TorchScript"
    EXPORT = "a program of torch.export"
    WEIGHTS = "weights alone (a state dict that torch.save wrote), without the network"
    PICKLED = "objects that torch.save pickled, a whole network perhaps"
    SAFETENSORS = "weights alone (safetensors), without the network"
    OTHER = "neither TorchScript nor a program of torch.export"


def held_by(path: Path) -> Held:
    """What a file holds. Raises `OSError` where it cannot be read."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_OLD_SAVE):
        return Held.PICKLED
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        return Held.SAFETENSORS
    try:
        with zipfile.ZipFile(path) as archive:
            return _held_by_archive(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError):
        return Held.OTHER


def _held_by_archive(archive: zipfile.ZipFile) -> Held:
    names = {name.partition("/")[2]: name for name in archive.namelist()}
    if "archive_format" in names or "serialized_exported_program.json" in archive.namelist():
        return Held.EXPORT
    if "constants.pkl" in names:
        return Held.SCRIPT
    if "data.pkl" not in names:
        return Held.OTHER
    if archive.getinfo(names["data.pkl"]).file_size > _MOST_PICKLE:
        return Held.PICKLED
    pickled = archive.read(names["data.pkl"])
    named = [
        str(argument) for op, argument, _ in pickletools.genops(pickled) if op.name == "GLOBAL"
    ]
    alone = all(
        name.startswith(_OF_WEIGHTS) or (name.startswith("torch ") and name.endswith("Storage"))
        for name in named
    )
    return Held.WEIGHTS if alone else Held.PICKLED
