# `make` lists the targets. Everything is installed in .venv; nothing outside the repository is touched.
# PYTHON    the interpreter that makes .venv (default: the first python3 on the PATH that is 3.11 or newer)
# PIP_ARGS  more words for `pip install`, for instance an index with CPU builds of torch
# The constraints pin torch, which is installed first: its build stays, whatever else depends on it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help demo test compiled bench format docs wheel clean

BIN := .venv/bin
PIP_ARGS ?=
PIP = $(BIN)/python -m pip install --disable-pip-version-check $$([ -t 1 ] || echo --quiet) -c constraints.txt $(PIP_ARGS)
COMPILED_TESTS = tests/core tests/online tests/frontend tests/conformance tests/process
# Decisions are compiled once for this machine, and kept; otherwise the first server to start would do it.
COMPILE = $(BIN)/python -c 'from mosel.solve.warm_up import warm_up; warm_up()'

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

demo: .venv/.demo  ## profile, plan and serve the bundled model, replay three policies, write report.html
	@exec $(BIN)/python scripts/demo.py

test: .venv/.dev  ## formatter check, linter, strict types, import contracts, docs and all tests
	@$(BIN)/ruff format --check --quiet . || { echo 'files above need `make format`'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@found="$$($(BIN)/lint-imports --no-logo)" || { echo "$$found"; exit 1; }
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@$(BIN)/pytest

compiled: .venv/.dev  ## compile what every call passes through, in build/compiled, and run its tests on that
	@$(BIN)/python scripts/compiled.py $(BIN)/pytest $(COMPILED_TESTS)

bench: .venv/.bench  ## run every benchmark in benchmarks/, the quick form of those that have one
	@for file in benchmarks/[a-z]*.py; do \
	  echo "== $$file"; $(BIN)/python "$$file" $$(grep -qs -e '"--quick"' "$$file" && echo --quick); done

format: .venv/.dev  ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff check --fix --quiet . && $(BIN)/ruff format --quiet .

docs: .venv/.dev  ## build the documentation in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo site/index.html

wheel: .venv/.dev  ## build the wheel in dist/
	@$(BIN)/python -m build --wheel --outdir dist . > /dev/null && ls dist/*.whl

clean:  ## remove .venv and everything that was built
	@rm -rf .venv site dist build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One stamp an extra: made anew when pyproject.toml or the constraints change.
.venv/.demo: .venv/.torch
	@$(PIP) -e '.[demo]' && $(COMPILE) && touch $@

.venv/.dev: .venv/.torch
	@$(PIP) -e '.[dev]' && $(COMPILE) && touch .venv/.demo $@

.venv/.bench: .venv/.torch
	@$(PIP) -e '.[dev,bench]' && $(COMPILE) && touch .venv/.demo .venv/.dev $@

.venv/.torch: .venv/.made pyproject.toml constraints.txt
	@echo 'make: installing what is missing in .venv (the first time takes minutes)' >&2
	@$(PIP) torch && touch $@

.venv/.made:
	@python="$(PYTHON)"; \
	for name in $${python:-python3 python3.14 python3.13 python3.12 python3.11}; do \
	  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || continue; \
	  "$$name" -c 'import ensurepip, venv' 2> /dev/null || { \
	    echo "make: $$name has no venv: install it (Debian, Ubuntu: apt install python3-venv) and run make again" >&2; exit 1; }; \
	  [ -x $(BIN)/python ] && $(BIN)/python -m pip --version > /dev/null 2>&1 || "$$name" -m venv .venv; \
	  touch $@; exit 0; \
	done; \
	echo 'make: no Python 3.11 or newer found: install one, or name it: make PYTHON=/path/to/python3 ...' >&2; exit 1
