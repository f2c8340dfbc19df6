# Two commands matter: `make demo` and `make test`. Everything else stands beside them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JOBS ?= 2

.PHONY: help setup setup-dev demo test test-slow mutants lint bench ui pictures lock clean

help:            ## Show what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"hub_pipeline needs Python 3.11 to 3.13; {sys.executable} is {v[0]}.{v[1]}. Set PYTHON=/path/to/python3.12 and try again.")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --no-deps --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock requirements-old-client.lock $(VENV)/.runtime
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-dev.lock
	$(PIP) install --quiet --no-deps --require-hashes --upgrade --target .cache/old-duckdb -r requirements-old-client.lock
	@touch $@

setup: $(VENV)/.runtime      ## Create .venv from the hashed lock
setup-dev: $(VENV)/.dev      ## ... and what tests and lint need

demo: setup      ## Run the daily job against the demo company and print what it found
	$(BIN)/hub-pipeline demo

test: setup-dev  ## The quick suite
	$(BIN)/pytest -n $(JOBS) -m "not slow"

test-slow: setup-dev  ## The long matrices
	$(BIN)/pytest -n $(JOBS) -m slow

mutants: setup-dev  ## Every mutant of the SQL must be killed by a test or be listed with its proof (long)
	$(BIN)/python -m hub_pipeline_tests.mutation --jobs $(JOBS)

lint: setup-dev  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup-dev ## Benchmarks, each against a reference in the same run
	$(BIN)/python -m benchmarks

ui: setup        ## The Dagster UI on 127.0.0.1 (of the demo company until a source is configured)
	$(BIN)/hub-pipeline ui

pictures: setup-dev  ## The pictures of the README, from the demo company (after `make demo`)
	$(BIN)/python -m hub_pipeline_tests.pictures

lock:            ## Renew the locks (needs uv); commit the result
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements.lock
	uv pip compile pyproject.toml --group build --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements-dev.lock
	echo 'duckdb==1.2.2' | uv pip compile - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements-old-client.lock

clean:           ## Remove the environment and caches, never data/
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
