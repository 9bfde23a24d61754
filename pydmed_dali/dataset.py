"""Who is in a study: patients, the slides of each, and their labels. Opens no slide."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydmed_dali.errors import DatasetError

Label = str | int
"""What a classifier shall learn of a patient: a name, or a number that reaches torch as it is."""

SLIDE_EXTENSIONS = frozenset(
    {
        ".bif",
        ".czi",
        ".dcm",
        ".mrxs",
        ".ndpi",
        ".scn",
        ".svs",
        ".svslide",
        ".tif",
        ".tiff",
        ".vms",
        ".vmu",
    }
)
"""Endings (lower case) of the files that OpenSlide 4 opens."""

_SHOWN = 5
_T = TypeVar("_T")


@dataclass(frozen=True)
class Record:
    """One slide file of a patient."""

    root: Path
    """The folder that the dataset was made from; kept absolute."""
    relative: PurePosixPath
    """The file's path below `root`: the same on every machine that mounts the folder."""
    infos: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Anything else known of the slide; it comes back from `BigChunkSource.describe`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _absolute(self.root))
        object.__setattr__(self, "relative", PurePosixPath(self.relative))
        object.__setattr__(self, "infos", dict(self.infos))

    @property
    def path(self) -> Path:
        """The file's absolute path, right from any working directory."""
        return self.root / self.relative


@dataclass(frozen=True)
class Patient:
    """The unit of sampling and of splitting: a name, its slides, and one label."""

    id: str
    """A name of its own in the dataset; by default the slide's path below the folder."""
    records: tuple[Record, ...]
    """The patient's slides, at least one."""
    label: Label | None = None
    """The class, or None in a dataset without labels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        if not self.records:
            raise DatasetError(f"patient {self.id!r} has no slide; give it at least one Record")
        if not isinstance(self.label, str | int | None):
            raise DatasetError(
                f"patient {self.id!r} has the label {self.label!r}; a label is a str or an int"
            )


@dataclass(frozen=True)
class Dataset:
    """Patients in the order of their ids.

    Ids are names, not positions, so that adding a file moves no other. Positions
    (`Dataset.patients[i]`, `Dataset.slides[i]`) are what travels through the pipeline in `info`;
    they hold for this dataset. Raises `DatasetError` when there is no patient, when two share an id
    or a slide, and when some patients have a label and others have none.
    """

    patients: tuple[Patient, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "patients", tuple(sorted(self.patients, key=lambda p: p.id)))
        if not self.patients:
            raise DatasetError("a dataset needs at least one patient, and got none")
        _refuse_repeats("patient id", (patient.id for patient in self.patients))
        _refuse_repeats("slide", (str(record.path) for record in self.slides))
        _check_labels(self.patients)

    def __len__(self) -> int:
        return len(self.patients)

    @cached_property
    def slides(self) -> tuple[Record, ...]:
        """Every slide, patient after patient."""
        return tuple(record for patient in self.patients for record in patient.records)

    @cached_property
    def first_slide(self) -> tuple[int, ...]:
        """Position in `slides` of each patient's first slide."""
        starts, position = [], 0
        for patient in self.patients:
            starts.append(position)
            position += len(patient.records)
        return tuple(starts)

    @cached_property
    def classes(self) -> tuple[Label, ...]:
        """The distinct labels, sorted; empty in a dataset without labels."""
        labels = {patient.label for patient in self.patients if patient.label is not None}
        return tuple(sorted(labels, key=lambda label: (isinstance(label, str), label)))

    @cached_property
    def label_numbers(self) -> tuple[int, ...]:
        """What each patient's crops carry as `label`: int labels as they are, names by their place
        in `classes`, -1 where there are no labels.
        """
        place = {
            label: number if isinstance(label, str) else label
            for number, label in enumerate(self.classes)
        }
        return tuple(-1 if p.label is None else place[p.label] for p in self.patients)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of ids, slides and labels, for saved states; the folder may be elsewhere."""
        digest = hashlib.blake2b(digest_size=16)
        for patient in self.patients:
            paths = [str(record.relative) for record in patient.records]
            digest.update(repr((patient.id, patient.label, paths)).encode())
        return digest.hexdigest()

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        label: Callable[[Path], Label | None] | None = None,
        patient: Callable[[Path], str] | None = None,
    ) -> Dataset:
        """Every slide below `folder`, at any depth; hidden files are left out.

        `label(path)` gives a slide's class and `patient(path)` the patient it belongs to; both get
        the absolute path and run here, in the calling process. Without `patient` every slide is a
        patient of its own. A folder of DICOM files (.dcm) counts as one slide.

        Raises `DatasetError` when the folder is missing or holds no slide, when `label` gives
        nothing for some slides, and when slides of one patient have different labels.
        """
        root = _absolute(folder)
        if not root.is_dir():
            raise DatasetError(f"{root} is not a folder; from_folder needs one that holds slides")
        paths = list(_find_slides(root))
        if not paths:
            raise DatasetError(
                f"{root} holds no slide: no file below it ends in one of "
                f"{' '.join(sorted(SLIDE_EXTENSIONS))}"
            )
        groups: dict[str, list[Record]] = {}
        for path in paths:
            relative = PurePosixPath(path.relative_to(root).as_posix())
            name = str(relative) if patient is None else str(_ask(patient, path, "patient"))
            groups.setdefault(name, []).append(Record(root, relative))
        labels = {} if label is None else _labels(groups, label)
        return cls(tuple(Patient(name, tuple(r), labels.get(name)) for name, r in groups.items()))


def _absolute(folder: str | os.PathLike[str]) -> Path:
    """The folder as it was named, from the root; links are resolved only to get rid of `..`."""
    path = Path(folder).absolute()
    return path.resolve() if ".." in path.parts else path


def _find_slides(root: Path) -> Iterator[Path]:
    """Slide files below `root` in sorted order; links to folders are followed, loops are not."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        dicom_taken = False
        for name in sorted(files):
            ending = Path(name).suffix.lower()
            if name.startswith(".") or ending not in SLIDE_EXTENSIONS:
                continue
            if ending == ".dcm" and dicom_taken:
                continue
            dicom_taken = dicom_taken or ending == ".dcm"
            yield Path(folder, name)


def _ask(function: Callable[[Path], _T], path: Path, name: str) -> _T:
    try:
        return function(path)
    except Exception as error:
        raise DatasetError(f"{name}({str(path)!r}) raised {error!r}") from error


def _labels(
    groups: Mapping[str, list[Record]], label: Callable[[Path], Label | None]
) -> dict[str, Label]:
    """The one label of each patient; the function is asked once a slide."""
    labels: dict[str, Label] = {}
    missing: list[Path] = []
    for name, records in groups.items():
        for record in records:
            value = _ask(label, record.path, "label")
            if value is None:
                missing.append(record.path)
            elif labels.setdefault(name, value) != value:
                raise DatasetError(
                    f"patient {name!r} has slides of two labels, {labels[name]!r} and {value!r} "
                    f"({record.path}); a patient has one label"
                )
    if missing:
        raise DatasetError(
            f"label gave None for {len(missing)} of {sum(map(len, groups.values()))} slides "
            f"({_some(missing)}); give every slide a label, or leave those slides out"
        )
    return labels


def _check_labels(patients: tuple[Patient, ...]) -> None:
    missing = [patient.id for patient in patients if patient.label is None]
    if missing and len(missing) < len(patients):
        raise DatasetError(
            f"{len(missing)} of {len(patients)} patients have no label ({_some(missing)}); "
            "label all of them or none"
        )
    for patient in patients:
        if isinstance(patient.label, int) and patient.label < 0:
            raise DatasetError(
                f"patient {patient.id!r} has the label {patient.label}; numbers start at 0"
            )
    if (
        len({isinstance(patient.label, str) for patient in patients if patient.label is not None})
        > 1
    ):
        raise DatasetError("labels are partly names and partly numbers; use one kind")


def _refuse_repeats(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise DatasetError(f"the {what} {value!r} occurs twice in the dataset")
        seen.add(value)


def _some(values: list[Path] | list[str]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown}, ..."
