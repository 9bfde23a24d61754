# Everything runs in .venv, which is made on first use and refreshed when a dependency changes.
# Options: PYTHON=python3.12 picks the interpreter, ARGS="tests/unit -x" goes to pytest.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCHMARKS := benchmarks/steady_state.py

.PHONY: demo test lint bench clean

demo: $(STAMP)
	@$(BIN)/pydmed-dali demo

test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy

bench: $(STAMP)
	@set -e; for benchmark in $(BENCHMARKS); do $(BIN)/python $$benchmark; done

# Leaves .venv: remove it by hand to start from nothing.
clean:
	@rm -rf build dist demo-output *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# One pip call, bounded by constraints.txt, so that no resolver chooses a version by itself.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "pydmed-dali needs Python 3.11 or newer, but $(PYTHON) is %d.%d: run make PYTHON=python3.11" % v[:2])'
	@echo "installing into .venv (once, a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
