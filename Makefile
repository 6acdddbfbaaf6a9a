# Five commands: demo, test, test-slow, check, docs. Each makes .venv and installs what it needs the first time.

VENV ?= .venv
# Tests that run at once; each takes one core.
JOBS ?= 2
BIN := $(VENV)/bin
# The first interpreter that really starts (a shim that only prints an error does not count).
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$name; break; fi; done)
# What an installation is made of; the rest of the package is read where it lies.
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard bertsmith/native/*.cpp bertsmith/native/*.h) bertsmith/native/build.py
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-slow check docs clean

demo: $(VENV)/installed
	$(BIN)/bertsmith demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -m slow

check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/installed
	$(BIN)/python -m bertsmith.methods docs/methods.md
	$(BIN)/python -m bertsmith.systems docs/systems docs/systems.md
	$(BIN)/python -m bertsmith.families docs/families.md

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "bertsmith needs Python 3.11 or later, and none was found; install one or say make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(BIN)/python
	$(PIP) install --progress-bar off -c constraints.txt -e .
	@touch $@

$(VENV)/installed-test: $(SOURCES) | $(BIN)/python
	$(PIP) install --progress-bar off -c constraints.txt -e ".[test]"
	@touch $@ $(VENV)/installed

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
