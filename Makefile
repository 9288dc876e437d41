# Everything from a bare clone, with only make and Python: `make demo` shows the main job, `make test` passes the tests.
# Each target makes the virtual environment that it needs; the second time that costs nothing.

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/installed.stamp

# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 test` takes another.
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	if $$python -c '$(ENOUGH)' >/dev/null 2>&1; then echo $$python; break; fi; done)

.DEFAULT_GOAL := help
.PHONY: help demo test nightly coverage notebook docs check lint format types floors tidy clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Installed once, and again when pyproject.toml or what the viewer takes from npm changes. The source is linked, not
# copied, so editing it needs nothing.
$(STAMP): pyproject.toml web/package-lock.json web/build.py web/hook.py
	@$(or $(PYTHON),false) -c '$(ENOUGH)' 2>/dev/null || { \
		echo "Sentinode needs Python 3.11 or later, and this is: $$($(or $(PYTHON),python3) --version 2>&1)."; \
		echo "Install a newer one, or name it: make PYTHON=/path/to/python3.12 test"; exit 1; } >&2
	@echo "Setting up $(VENV), once: a few minutes and several gigabytes of packages, PyTorch first among them." >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## the main job on generated data: train, evaluate, predict, explain
	$(BIN)/sentinode demo --out demo

test: $(STAMP) ## the tests, on all cores
	$(BIN)/python -m pytest -m "not nightly" --numprocesses auto --dist loadfile --max-worker-restart 0

nightly: $(STAMP) ## the tests that install the wheel or start a cluster
	$(BIN)/python -m pytest -m nightly

coverage: $(STAMP) ## the tests, with the coverage of lines and branches, and the files below 90 %
	$(BIN)/python -m pytest --cov=sentinode --cov-branch --cov-report=term
	@$(BIN)/coverage report | awk '/\.py / && $$NF + 0 < 90 {print "below 90 %: " $$1 ", " $$NF}'

notebook: $(STAMP) ## the whole story in JupyterLab
	$(BIN)/jupyter lab notebooks/train_and_test.ipynb

docs: $(STAMP) ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: lint format types floors ## what must hold before the tests: lint, format, types, floors

lint: $(STAMP)
	$(BIN)/ruff check .

format: $(STAMP)
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

floors: $(STAMP)
	$(BIN)/lint-imports

tidy: $(STAMP) ## mend what lint and format can mend by themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and built files; the environment and your runs stay
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
