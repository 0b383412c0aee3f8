# `make` lists the targets. Needs make and Python 3.11 or newer; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
SOLUTIONS := $(wildcard notebooks/solutions/*.ipynb)
NOTEBOOKS := $(wildcard notebooks/*.ipynb) $(SOLUTIONS)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 ...` picks another.
PYTHON ?= $(firstword $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$each; done) python3)

# As many processes run tests side by side; 0: none beside make's own.
WORKERS ?= 2
# A file's tests stay together, as they share what is slow to make; in the tree's order, so that no long file comes last.
SIDE_BY_SIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Further options for JupyterLab, such as LAB_ARGS="--no-browser --port=8890".
LAB_ARGS ?=
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

# So that notebooks and tests find the `dwdp-lab` command. Not for the set-up, which must not find a stale .venv.
IN_VENV = PATH="$(CURDIR)/$(BIN):$$PATH"

# Tests start a hundred rank processes: none should compile the lab anew, as containers like to have it.
IN_TESTS = $(IN_VENV) PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help setup lab trust test lint types unit notebooks test-browser bench-browser test-gpu format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.ready  ## create .venv with everything at the tested versions

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "DWDP Lab needs Python 3.11 or newer, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1)."; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make a virtual environment: it has no ensurepip."; \
		echo "On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@# mypy finds the mapped packages (see pyproject.toml) under their import names
	@mkdir -p $(VENV)/types
	@ln -sfn ../../kernels $(VENV)/types/dwdp_kernels
	@ln -sfn ../../data $(VENV)/types/dwdp_data
	@# no news and update pop-ups over the notebook, nor requests to the network for them
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
		> $(VENV)/share/jupyter/lab/settings/overrides.json
	@touch $@

lab: trust  ## open the first notebook in JupyterLab
	$(IN_VENV) $(BIN)/jupyter lab $(AS_ROOT) --ServerApp.root_dir=$(CURDIR) \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_ARGS)

trust: $(VENV)/.ready
	@# JupyterLab shows words instead of pictures where nobody on this machine has signed a notebook's outputs
	@-$(BIN)/jupyter trust $(SOLUTIONS) >/dev/null

test: lint types unit notebooks  ## everything that needs no GPU: lint, types, unit, property and notebook tests

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

unit: $(VENV)/.ready
	@# nbval takes two seconds to load, and is for notebooks
	$(IN_TESTS) $(BIN)/pytest -p no:nbval $(SIDE_BY_SIDE) -m "not gpu and not browser"

notebooks: $(VENV)/.ready
	@# learner notebooks note what was solved: here, not in the progress of whoever runs the tests
	$(if $(NOTEBOOKS),$(IN_TESTS) DWDP_LAB_PROGRESS=$(CURDIR)/$(VENV)/progress.json $(BIN)/pytest $(SIDE_BY_SIDE) --nbval --nbval-cell-timeout=120 --timeout=180 -x $(NOTEBOOKS))

test-browser: $(VENV)/.browser  ## the control room in a real Chromium (Debian: apt install chromium)
	$(IN_VENV) $(BIN)/pytest tests/browser

bench-browser: $(VENV)/.browser  ## how long a slider takes to a new picture there, and Stop to no rank
	$(IN_VENV) $(BIN)/python tests/browser/slider_to_picture.py
	$(IN_VENV) $(BIN)/python tests/browser/stop_to_idle.py

$(VENV)/.browser: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	@touch $@

test-gpu: $(VENV)/.ready  ## the tests that need NVIDIA GPUs, and the notebooks, whose ranks are GPU ranks there
	$(IN_VENV) $(BIN)/pytest -m gpu
	$(MAKE) notebooks WORKERS=0

format: $(VENV)/.ready  ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and what the tools keep
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
