"""The names of classes: other spellings, classes that QuPath ignores, and exclusions."""

from __future__ import annotations

import pytest

from pydmed_dali.annotation.class_names import (
    check_exclusions,
    is_ignored,
    meant_by,
    warn_of_spellings,
)
from pydmed_dali.errors import OptionError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tumor", "Tumor"),
        ("TUMOR", "Tumor"),
        ("Tumour", "Tumor"),
        ("Tumor  bed", "tumor_bed"),
        ("tumor-bed", "tumor_bed"),
        ("Gleason 4", None),
        ("_2", None),
        ("Non-tumor", None),
        ("Tumor: Positive", None),
        ("Necrosis", None),
    ],
)
def test_which_class_is_meant(name: str, meant: str | None) -> None:
    assert meant_by(name, ["Stroma", "Tumor", "tumor_bed", "Gleason 3", "_0"]) == meant


def test_other_spellings_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_spellings(("Tumor",), {"Tumor": 3, "tumor": 2, "Stroma": 9})
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not among classes, so they count as nothing: 'tumor' (2), close to 'Tumor';" in message


def test_classes_that_differ_in_spelling_alone_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_of_spellings(("Tumor", "tumor", "Stroma"), {"Tumor": 3, "tumor": 2, "Stroma": 9})
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith("numbered apart: 'Tumor' and 'tumor'")


def test_classes_that_are_spelt_alike_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_spellings(("Tumor", "Gleason 3"), {"Tumor": 3, "Gleason 3": 1, "Gleason 4": 2})
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("Ignore*", True), ("Region*", True), ("Tumor: Artefact*", True), ("Tumor", False)],
)
def test_qupath_ignores_names_that_end_with_an_asterisk(name: str, ignored: bool) -> None:
    assert is_ignored(name) == ignored


@pytest.mark.parametrize(
    ("exclusions", "classes", "message"),
    [
        ("_2", (), "not the text '_2'"),
        (["_2", 3], (), "must be names of classes, not 3"),
        (["_2", "_0"], ("_0", "_1"), "'_0' is among classes and among exclusions="),
        (["tumor "], ("Tumor",), "'Tumor' is among classes and among exclusions="),
    ],
)
def test_exclusions_that_cannot_be_are_refused(
    exclusions: list[str], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        check_exclusions(exclusions, classes)
