# `make` lists the targets. Each one first sets up what is missing, so `make train` works in a fresh clone.

PYTHON ?= python3
VENV ?= .venv
RUN ?= ray_configs/runs/quick.yaml

# Written only after everything is installed: an interrupted set-up starts again, a finished one never does.
READY = $(VENV)/.ready
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --no-input

# Several torch processes with several threads each slow one another down twenty times over.
export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help setup train test lint verify bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer)  VENV=$(VENV)  RUN=$(RUN)"

setup: $(READY) ## create the virtual environment with the tested versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: '$(PYTHON)' is not Python 3.11 or newer; name one: make setup PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv "$(VENV)"
	$(PIP) install --no-warn-conflicts --constraint constraints.txt --editable '.[dev]'
	@# CityLearn declares versions that nothing else here accepts, and runs without them: see pyproject.toml.
	$(PIP) install --no-deps --constraint constraints.txt citylearn
	@touch "$(READY)"

train: $(READY) ## train the agents of RUN; again: go on where it stopped, or evaluate what is finished
	"$(VENV)/bin/iquitos-rl" train --run "$(RUN)" --resume

test: $(READY) ## run all tests
	"$(VENV)/bin/python" -m pytest

lint: $(READY) ## check style, format and types
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/mypy"

verify: $(READY) ## compare with CityLearn, RLlib and Stable-Baselines3, prove the optimum (3.5 hours); see docs
	"$(VENV)/bin/python" experiments/verify_learning.py
	"$(VENV)/bin/python" experiments/verify_parity.py
	"$(VENV)/bin/python" experiments/baseline_bar.py --citylearn
	"$(VENV)/bin/iquitos-rl" dataset build
	"$(VENV)/bin/python" experiments/verify_optimum.py
	"$(VENV)/bin/python" experiments/verify_ladder.py
	"$(VENV)/bin/python" experiments/run_baselines.py --engine both

bench: $(READY) ## measure simulation and training speed (a quarter of an hour)
	"$(VENV)/bin/iquitos-rl" bench engine
	"$(VENV)/bin/iquitos-rl" bench train --with-sb3

# Never runs/, outputs/ or datasets/: those are your results and your data.
clean: ## remove the virtual environment, caches and build leftovers (never runs/, outputs/, datasets/)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find iquitos_rl tests experiments -type d -name __pycache__ -prune -exec rm -rf {} +
