"""The main program of a peer: one loader in a process of its own, measured once.

python -m benchmarks.peers.NAME --slides FOLDER [--seconds 8] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict

from benchmarks.measure import Loader, measure
from benchmarks.workload import Workload, add_options


class UnavailableError(Exception):
    """A peer cannot do what is asked; the message says why."""


def main(description: str | None, make: Callable[[Workload], Loader]) -> None:
    """Measure `make`'s loader on the workload that the command line gives, and print the round."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    workload = Workload.from_arguments(arguments)
    workload.limit_cores()
    try:
        found = asdict(measure(make, workload))
    except UnavailableError as error:
        found = {"unavailable": str(error)}
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}")
