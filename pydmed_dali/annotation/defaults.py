"""Limits and defaults of reading annotation files. Imports nothing: the command line shows them."""

from __future__ import annotations

EXCLUSIONS = ("Exclusion", "Ignore*")
"""The classes whose regions are cut out of all others, unless a caller names other ones."""

MOST_BYTES = 256 * 2**20
"""Files larger than this are refused unless told otherwise: read, they take many times that."""

LARGEST = 2.0**31
"""A coordinate beyond this, in level-0 pixels, is on no slide."""

MOST_CROSSINGS = 100_000
"""How often the polygons of a file may cross themselves, all together. Each crossing is a corner of
the repaired polygon, and 100,000 of them take about 5 s; a scribble of 3,000 corners has a million.
"""
