"""A dataset in a few words: for a prompt, and as a table for a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from pydmed_dali.dataset.patient import Label, Patient
from pydmed_dali.text import printable

_SHOWN = 12  # labels


def dataset_in_words(patients: Sequence[Patient], classes: Sequence[Label]) -> str:
    """One line: how many patients and slides, and how many patients have each label."""
    slides = sum(len(patient.records) for patient in patients)
    text = f"{_counted(len(patients), 'patient')}, {_counted(slides, 'slide')}"
    found = Counter(patient.label for patient in patients)
    labels = [f"{printable(label)}: {found[label]}" for label in classes[:_SHOWN]]
    more = ["..."] * (len(classes) > _SHOWN)
    return f"{text}; patients by label: {', '.join(labels + more)}" if labels else text


def dataset_as_html(patients: Sequence[Patient], classes: Sequence[Label]) -> str:
    """A table with a row for each label, and one for all."""
    people = Counter(patient.label for patient in patients)
    slides: Counter[Label | None] = Counter()
    for patient in patients:
        slides[patient.label] += len(patient.records)
    rows = [(printable(label), people[label], slides[label]) for label in classes[:_SHOWN]]
    if len(classes) > _SHOWN:
        rest = classes[_SHOWN:]
        more = [sum(found[label] for label in rest) for found in (people, slides)]
        rows.append((f"{len(rest)} more labels", more[0], more[1]))
    rows.append(("all", len(patients), slides.total()))
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{count:,}</td><td>{files:,}</td></tr>"
        for name, count, files in rows
    )
    head = "<tr><th>label</th><th>patients</th><th>slides</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
