"""Names of files that are derived from a slide's, as short as a file system wants them."""

from __future__ import annotations

import hashlib
import os

LONGEST = 255
"""Bytes of a file's name that Linux's file systems take."""

_DIGEST = 8  # bytes


def short_name(name: str, most: int) -> str:
    """The name where it has at most so many bytes; else its beginning and a digest of all of it."""
    encoded = os.fsencode(name)
    if len(encoded) <= most:
        return name
    digest = hashlib.blake2b(encoded, digest_size=_DIGEST).hexdigest()
    return f"{encoded[: most - len(digest) - 1].decode('utf-8', 'ignore')}-{digest}"
