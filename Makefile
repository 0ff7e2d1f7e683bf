# `make demo` and `make test` set up all they need in .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo quick test lint types check clean

demo: $(VENV)/.installed  ## train three bridges on English names, ask them in 15 languages
	$(BIN)/layerbridge demo

quick: $(VENV)/.installed  ## the same, smaller
	$(BIN)/layerbridge demo --quick

test: $(VENV)/.dev  ## all tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not real' --cov --cov-report=
	$(BIN)/python -m pytest -m real --cov --cov-append --cov-report=term

lint: $(VENV)/.dev  ## style and the layers of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## mypy
	$(BIN)/mypy

check: lint types test  ## what CI runs

clean:
	rm -rf $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "layerbridge needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "setting up $(VENV) (a few minutes the first time) …" >&2
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	@touch $@
