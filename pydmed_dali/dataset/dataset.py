"""The patients of a study, as sources and pipelines see them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydmed_dali.dataset.folder import patients_of_folder
from pydmed_dali.dataset.patient import (
    LARGEST_LABEL,
    Label,
    Patient,
    Record,
    composed_label,
)
from pydmed_dali.dataset.rows import TableLike
from pydmed_dali.dataset.slide_key import refuse_shared_slides
from pydmed_dali.dataset.spelling import composed
from pydmed_dali.dataset.split import deal, equal_shares, read_shares
from pydmed_dali.dataset.summary import dataset_as_html, dataset_in_words
from pydmed_dali.dataset.table import LABEL, PATIENT, patients_of_table
from pydmed_dali.errors import DatasetError
from pydmed_dali.text import shorten_list


@dataclass(frozen=True)
class Dataset:
    """Patients in the order of their ids.

    Ids are names, not positions, so that adding a file moves no other. Positions
    (`Dataset.patients[i]`, `Dataset.slides[i]`) are what travels through the pipeline in `info`;
    they hold for this dataset. Raises `DatasetError` when there is no patient, when two share an id
    or a slide, when some patients have a label and others have none, and when a label is not among
    the classes.
    """

    patients: tuple[Patient, ...]
    classes: tuple[Label, ...] = ()
    """The labels there are, in the order that numbers those that are names. By default the distinct
    labels of the patients, sorted; empty in a dataset without labels. A part of a dataset keeps
    the classes of the whole, so that a label has the same number in both."""
    passed_over: Mapping[str, tuple[Path, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """DICOM files below the folder that are no slides, by the reason; empty but for `from_folder`.
    The other files of a DICOM slide are not among them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "patients", tuple(sorted(self.patients, key=lambda p: p.id)))
        if not self.patients:
            raise DatasetError("a dataset needs at least one patient, and got none")
        _refuse_repeats("patient id", (patient.id for patient in self.patients))
        _refuse_repeats("slide", (str(record.path) for record in self.slides))
        _check_labels(self.patients)
        labels = {patient.label for patient in self.patients if patient.label is not None}
        ordered = sorted(labels, key=lambda label: (isinstance(label, str), label))
        classes = tuple(composed_label(label) for label in self.classes)
        object.__setattr__(self, "classes", classes or tuple(ordered))
        _check_classes(self.classes, ordered)

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        return f"<Dataset: {dataset_in_words(self.patients, self.classes)}>"

    def _repr_html_(self) -> str:
        """The table that a notebook shows."""
        return dataset_as_html(self.patients, self.classes)

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
        """A digest of ids, slides, labels and classes, for saved states; the folder may move, to a
        file system that spells names in another of Unicode's normal forms, too.
        """
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for patient in self.patients:
            paths = [composed(str(record.relative)) for record in patient.records]
            digest.update(repr((patient.id, patient.label, paths)).encode())
        return digest.hexdigest()

    def split(self, shares: Mapping[str, float], seed: int = 0) -> dict[str, Dataset]:
        """Parts of the dataset by name, e.g. `{"train": 0.7, "validation": 0.15, "test": 0.15}`.

        Patients are dealt with all their slides, label by label. Of the n patients of a label a
        share s gets n*s, rounded down or up: what is left over goes to the parts that are furthest
        behind (the largest remainder, carried on from label to label, so that many rare labels do
        not all round to the same part). The patients of a label lie in the order of a hash of seed
        and id, and the parts take one stretch of it each: when a patient comes or goes, few others
        change their part. Every part keeps the classes of the whole. Where a part gets no patient
        of some label, a warning is logged.

        Raises `OptionError` for shares that are not above 0 or do not add up to 1, `DatasetError`
        when there are too few patients to give every part one, and when one file is a slide of two
        patients, by a link or under another name.
        """
        self._refuse_shared_slides()
        parts = deal(self.patients, read_shares(shares), seed)
        return {name: self._part(part) for name, part in parts.items()}

    def folds(self, k: int, seed: int = 0) -> list[tuple[Dataset, Dataset]]:
        """(training, test) of each fold of a k-fold cross-validation.

        The tests are the parts of a split into k equal shares: each patient is in exactly one, and
        their numbers of patients, of each label and in all, differ by at most one. Otherwise as
        `split`.

        Raises `OptionError` for k below 2, `DatasetError` when there are fewer patients than folds.
        """
        self._refuse_shared_slides()
        folds = []
        for test in deal(self.patients, equal_shares(k), seed).values():
            left_out = {patient.id for patient in test}
            training = [patient for patient in self.patients if patient.id not in left_out]
            folds.append((self._part(training), self._part(test)))
        return folds

    def _part(self, patients: Iterable[Patient]) -> Dataset:
        return Dataset(tuple(patients), self.classes)._with_own_slides()

    def _with_own_slides(self) -> Dataset:
        """The same dataset, of which it is known that no file is a slide of two patients."""
        object.__setattr__(self, "_has_own_slides", True)
        return self

    def _refuse_shared_slides(self) -> None:
        """Raise where one file is a slide of two patients; asks the file system once a dataset."""
        if not getattr(self, "_has_own_slides", False):
            refuse_shared_slides(
                (patient.id, record.path) for patient in self.patients for record in patient.records
            )
            self._with_own_slides()

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
        patient of its own.

        DICOM files (.dcm) are grouped by series: each series of whole-slide images in a folder is
        one slide, named by the first of its files that shows the slide itself. DICOM files of
        anything else are passed over, with a warning by logging, and listed in `passed_over`. A
        slide that has several names (by a link, or as a second copy of a DICOM series) is listed
        once, with a warning.

        Raises `DatasetError` when the folder is missing or holds no slide, when a folder below it
        cannot be listed, when `label` gives nothing for some slides, when slides of one patient
        have different labels, and when two names of one slide have different patients or labels.
        """
        patients, passed_over = patients_of_folder(folder, label, patient)
        return cls(patients, passed_over=passed_over)._with_own_slides()

    @classmethod
    def from_table(
        cls,
        table: TableLike,
        root: str | os.PathLike[str] | None = None,
        *,
        slide: str = "slide",
        patient: str | None = PATIENT,
        label: str | None = LABEL,
        missing: str = "raise",
    ) -> Dataset:
        """One slide a row: its path, and where there are such columns its patient and label.

        `table` is the path of a CSV file (UTF-8; comma, semicolon or tab), a mapping of columns, a
        sequence of mappings, or a DataFrame of pandas or polars. `slide`, `patient` and `label`
        name its columns; `None` does without. Without patients every slide is one of its own. All
        other columns come back in `Record.infos`, from a file as text.

        Paths are relative to `root`, by default the CSV file's folder (for a table in memory the
        working directory). A table may come from elsewhere, so it cannot lead out of `root`: a
        path with `..`, or an absolute one that does not begin with `root`, is refused; pass a
        `root` that holds all slides, be it `"/"`. Links inside `root` are followed, as
        `from_folder` does. A slide's ending does not matter. A name in another of Unicode's normal
        forms than the file's is found, and so is one without its ending, where one slide alone
        could be meant. Rows that name one slide by several names (links, files of one DICOM series)
        are one slide, with a warning.

        Labels of a file are numbers when all of them are whole ones, and otherwise names, none of
        which may look like a number. `missing="skip"` leaves out slides that are not there, with a
        warning by logging.

        Raises `DatasetError`, with the rows in question, for paths that are empty, repeated, lead
        out of `root` or to no file, for empty cells under patient or label, for labels that
        contradict each other, for a slide that by two names has two patients or labels, and for
        columns that are not there. Rows are numbered as a spreadsheet shows them (the header is row
        1), in memory from 0.
        """
        patients = patients_of_table(table, root, slide, patient, label, missing)
        return cls(patients)._with_own_slides()


def _check_labels(patients: tuple[Patient, ...]) -> None:
    missing = [patient.id for patient in patients if patient.label is None]
    if missing and len(missing) < len(patients):
        raise DatasetError(
            f"{len(missing)} of {len(patients)} patients have no label ({shorten_list(missing)}); "
            "label all of them or none"
        )
    for patient in patients:
        if isinstance(patient.label, int) and not 0 <= patient.label <= LARGEST_LABEL:
            raise DatasetError(
                f"patient {patient.id!r} has the label {patient.label}; numbers start at 0 and end "
                f"at {LARGEST_LABEL}"
            )


def _check_classes(classes: tuple[Label, ...], labels: Iterable[Label]) -> None:
    if len({isinstance(label, str) for label in (*classes, *labels)}) > 1:
        raise DatasetError("labels are partly names and partly numbers; use one kind")
    unknown = [repr(label) for label in labels if label not in classes]
    if unknown:
        raise DatasetError(
            f"the labels {shorten_list(unknown)} are not among the classes {classes}; "
            "classes holds every label once"
        )
    if len(set(classes)) < len(classes):
        raise DatasetError(f"the classes {classes} hold a label twice")


def _refuse_repeats(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise DatasetError(f"the {what} {value!r} occurs twice in the dataset")
        seen.add(value)
