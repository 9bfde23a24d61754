# Everything runs in .venv, which is made on first use and refreshed when a dependency changes.
# Options: PYTHON=python3.12 picks the interpreter; ARGS goes to pytest (ARGS="tests/unit -x") or to
# the benchmarks (ARGS="--tissue").
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PEERS_STAMP := .venv/.installed-bench

.PHONY: demo test check durations lint bench notebooks clean

demo: $(STAMP)
	@$(BIN)/pydmed-dali demo

test: $(STAMP)
	@$(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadfile --no-loadscope-reorder)

# What takes under a minute: lint, types, and the tests that start no process and no pipeline.
check: lint
	@$(BIN)/python -m pytest -q -n 2 tests/unit tests/property

# Writes tests/durations.json, by which the long test files come first.
durations: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --record-durations

lint: $(STAMP)
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy

bench: $(PEERS_STAMP)
	@$(BIN)/python -m benchmarks.suite $(ARGS)

# Runs the notebooks from clean and keeps what they show.
notebooks: $(STAMP)
	@$(BIN)/python -m notebooks.execute $(ARGS)

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

# What the benchmarks compare with; nothing else needs it.
$(PEERS_STAMP): $(STAMP)
	@echo "installing what to compare with into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@
