"""What the command line says, as any terminal can show it: names are data, and stay on one line."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pydmed_dali.errors import PydmedError
from pydmed_dali.text import paragraph


@contextmanager
def terminal() -> Iterator[None]:
    """Within it any text can be printed, and an error ends the program with one clear paragraph.

    Names in the log are escaped, and so is text that the terminal's encoding does not have; nothing
    is left out.
    """
    _prepare()
    try:
        yield
    except (PydmedError, OSError) as error:  # OSError: of a file or folder that was named
        typer.echo(f"pydmed-dali: {paragraph(str(error))}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)  # as Python's handler of last resort, which it replaces
        handler.setFormatter(_PrintableFormatter())
        logging.getLogger().addHandler(handler)


class _PrintableFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The message alone, printable."""
        return paragraph(record.message)
