"""The main program of a process that reads annotation files: one line of JSON a file.

`python -m pydmed_dali.worker.annotation_parser CACHE EXCLUSIONS MAX_BYTES` reads the paths of files
from standard input, as JSON texts, keeps what they hold in the folder CACHE, and answers each with
`{"file": ...}` or `{"error": ...}`. It ends with its input.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from pydmed_dali.errors import AnnotationError
from pydmed_dali.slide.cache import Cache
from pydmed_dali.worker.annotation_cache import read_and_keep
from pydmed_dali.worker.annotation_plan import ReadingRules


def main(arguments: list[str]) -> None:
    """Answer every line until there is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    gc.disable()  # millions of objects, none of them in a cycle
    folder, exclusions, max_bytes = arguments
    rules = ReadingRules(tuple(json.loads(exclusions)), int(max_bytes))
    cache = Cache(Path(folder) if folder else None)
    for line in sys.stdin:
        answer = _answer(Path(json.loads(line)), rules, cache)
        print(json.dumps(answer, default=str), flush=True)


def _answer(path: Path, rules: ReadingRules, cache: Cache) -> dict[str, object]:
    try:
        return {"file": asdict(read_and_keep(path, rules, cache))}
    except AnnotationError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"{path}: there is too little memory to read it"}


if __name__ == "__main__":
    main(sys.argv[1:])
