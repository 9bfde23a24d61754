"""XML from anybody: no document type, no entities, nothing fetched; numbers in any locale."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pydmed_dali.annotation.outline import Ring, check_number
from pydmed_dali.errors import AnnotationError

_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")


def parse_xml(data: bytes) -> Element:
    """The outermost element. Raises `AnnotationError`.

    An annotation file needs no document type; one that has it is refused, and with it entities
    that expand to gigabytes or name other files.
    """
    try:
        return fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise AnnotationError(
            "its XML declares a document type or entities, which can exhaust memory and read other "
            "files; annotation files need none, so it is refused"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"it is no XML: {error}") from error


def read_ring(corners: list[Element], where: str) -> Ring:
    """Corners from the attributes X and Y, with a decimal point or a decimal comma."""
    numbers = [(_number(c.get("X"), where), _number(c.get("Y"), where)) for c in corners]
    return np.array(numbers, np.float64).reshape(-1, 2)


def _number(text: str | None, where: str) -> float:
    if text is None or not _NUMBER.fullmatch(text.strip()):
        raise AnnotationError(f"{where}: the coordinate {text!r} is no number")
    return check_number(float(text.replace(",", ".")), where)
