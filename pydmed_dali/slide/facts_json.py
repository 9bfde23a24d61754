"""A slide's facts as text, to keep what opening it found out."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.slide.slide import SlideFacts

VERSION = 4
"""Of what facts there are, and of how they are found: kept ones were found by the same."""


def facts_to_json(facts: SlideFacts) -> bytes:
    """The facts, as `facts_from_json` reads them."""
    values = {**asdict(facts), "shifted_levels": sorted(facts.shifted_levels)}
    return json.dumps(values).encode()


def facts_from_json(data: bytes) -> SlideFacts:
    """What `facts_to_json` wrote."""
    values: dict[str, Any] = json.loads(data)
    values["level_dimensions"] = tuple(Size(**size) for size in values["level_dimensions"])
    values["level_downsamples"] = tuple(values["level_downsamples"])
    values["tile_sizes"] = tuple(size and Size(**size) for size in values["tile_sizes"])
    values["mpp"] = values["mpp"] and tuple(values["mpp"])
    values["background"] = tuple(values["background"])
    values["shifted_levels"] = frozenset(values["shifted_levels"])
    bounds = values["bounds"]
    values["bounds"] = bounds and Region(Point(**bounds["location"]), Size(**bounds["size"]))
    values["remarks"] = tuple(values["remarks"])
    return SlideFacts(**values)
