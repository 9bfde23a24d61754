"""`python -m pydmed_dali`: the command line, where its script is not on the path."""

from __future__ import annotations

from pydmed_dali.cli.app import main

if __name__ == "__main__":
    main()
