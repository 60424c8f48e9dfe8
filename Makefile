# The words that people and CI run alike. `make help` lists them; each prepares what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
# Services start four times as fast from compiled modules, and there are many starts.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/uv/bin/uv
READY := $(VENV)/.ready
PYTEST_ARGS ?=
# for instance --upgrade, or --upgrade-package NAME
LOCK_ARGS ?=

.PHONY: help setup check test fuzz demo up down bench lock clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(READY) ## the environment in .venv, from requirements.lock
	@echo "ready: $(BIN)/oneblock"

# uv lives in an environment of its own, so that the lock alone decides what ours holds.
$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PYTHON) -m venv $(VENV)/uv
	@$(VENV)/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(READY): requirements.lock pyproject.toml libs/sdk/pyproject.toml | $(UV)
	@echo "installing what requirements.lock says into $(VENV) …"
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps -e . -e libs/sdk
	@touch $@

check: $(READY) ## format, lint, types, imports, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd libs/sdk && ../../$(BIN)/mypy --config-file ../../pyproject.toml \
	  --cache-dir ../../.mypy_cache/sdk oneblock generate.py
	$(BIN)/lint-imports
	$(BIN)/python -m libs.common.manifest.generate --check
	$(BIN)/python -m libs.sdk.generate --check

# Tests that start servers share two cores badly: they run in two lanes at most, and what belongs
# to one stack stays in one lane (xdist_group).
test: $(READY) ## every test
	$(BIN)/python -m pytest -n 2 --dist loadscope $(PYTEST_ARGS)

# FUZZ: how many times the inputs of `make test`; FUZZ_SEED: where they begin, by default anew.
FUZZ ?= 25
FUZZ_SEED ?= $(shell date +%s)
fuzz: $(READY) ## every reader with many more made-up inputs; FUZZ=100 for still more
	ONEBLOCK_FUZZ=$(FUZZ) ONEBLOCK_FUZZ_SEED=$(FUZZ_SEED) $(BIN)/python -m pytest -n 2 \
	  -m fuzz --timeout 3600 $(PYTEST_ARGS) tests/unit

demo: $(READY) ## real files become datasets, from nothing to rows; leaves nothing running
	@$(BIN)/python -m deploy.local.demo

up: $(READY) ## start the stack and leave it running
	@$(BIN)/oneblock up --detach

down: $(READY) ## stop it
	@$(BIN)/oneblock down

bench: $(READY) ## how fast, beside its peers
	$(BIN)/python -m benchmarks

lock: $(UV) ## solve the dependencies again into requirements.lock
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --all-extras \
	  --no-header --no-emit-index-url $(LOCK_ARGS) \
	  -o requirements.lock pyproject.toml libs/sdk/pyproject.toml

clean: ## remove the environment and every cache; no data folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
