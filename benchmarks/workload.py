"""What every loader is given: the same slides, crops, batches, processes and cores."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workload:
    """One benchmark's settings; they travel to a peer's process as command-line options."""

    slides: Path
    """A folder of slides."""
    tiles: Path | None = None
    """The folder of JPEG tiles that `tiles.cut_tiles` cut from those slides, for who reads them."""
    crop: int = 224
    """Side of a crop, in level-0 pixels."""
    batch: int = 256
    """Crops in a batch."""
    chunk: int = 4096
    """Side of a BigChunk, in level-0 pixels."""
    resident: int = 16
    """BigChunks from which a batch is mixed, where there are any."""
    crops_per_chunk: int = 512
    """Crops taken of a BigChunk before it is replaced, where there are any."""
    workers: int = 2
    """Processes, or threads where a loader has threads only, that read."""
    cores: int = 2
    """Cores that the loader may use, its main process included."""
    tissue: bool = False
    """Whether crops lie on tissue only, by `tissue.tissue_mask`, instead of anywhere."""
    warm_up: float = 5.0
    """Seconds of work before the timed run: memory is taken, slides are opened."""
    seconds: float = 8.0
    """Length of the timed run."""
    seed: int = 0
    """Decides the places; each round has another one."""

    def arguments(self) -> list[str]:
        """The options that make `from_arguments` give this workload."""
        found = []
        for name, value in asdict(self).items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                found += [option] if value else []
            elif value is not None:
                found += [option, str(value)]
        return found

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Workload:
        """The workload of the options that `add_options` added."""
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    def limit_cores(self) -> None:
        """Keep this process, and those it starts from now on, on the first `cores` cores."""
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: self.cores])


def slides_parser(description: str | None, count: int, counted: str) -> argparse.ArgumentParser:
    """A parser of the options of a benchmark over several loaders, which makes its own slides."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, leave_out=("slides", "tiles", "crops_per_chunk"))
    parser.set_defaults(crops_per_chunk=None)
    parser.add_argument("--slides", type=Path, help="a folder of slides instead of new mosaics")
    parser.add_argument("--side", type=int, default=20480, help="their side in pixels (20480)")
    parser.add_argument("--count", type=int, default=count, help=f"{counted} ({count})")
    parser.add_argument("--peers", nargs="+", help="only these modules of benchmarks/peers")
    return parser


def add_options(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """One option for each field of `Workload` but those left out, with the field's default."""
    helps = {
        "slides": "folder of slides",
        "tiles": "folder of the JPEG tiles cut from them",
        "crop": "side of a crop, pixels",
        "batch": "crops in a batch",
        "chunk": "side of a BigChunk, pixels",
        "resident": "BigChunks a batch is mixed from",
        "crops_per_chunk": "crops of a BigChunk before it is replaced",
        "workers": "processes that read",
        "cores": "cores that a loader may use",
        "tissue": "crops on tissue only",
        "warm_up": "seconds of work before each timed run",
        "seconds": "length of each timed run",
        "seed": "decides the places",
    }
    for field in fields(Workload):
        if field.name in leave_out:
            continue
        option, default = f"--{field.name.replace('_', '-')}", field.default
        if field.name == "tissue":
            parser.add_argument(option, action="store_true", help=helps[field.name])
        elif field.name in ("slides", "tiles"):
            required = field.name == "slides"
            parser.add_argument(option, type=Path, required=required, help=helps[field.name])
        else:
            text = f"{helps[field.name]} ({default})"
            parser.add_argument(option, type=type(default), default=default, help=text)
