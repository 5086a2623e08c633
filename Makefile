# What a newcomer and CI type. `make` alone lists it. A target is listed when it has a `## line` behind its name.
# The machine needs git, make and Python 3.11-3.14 with venv; everything else goes into .venv.

# The Python that makes .venv. A .venv that is there stays, unless one is asked for by name: make setup PYTHON=python3.13
PYTHON ?= python3
# More of pyproject.toml's extras: make setup EXTRAS=notebooks,slurm
EXTRAS ?=
# Test processes at a time; auto: one a core, 8 at most, as each of them imports torch
TEST_JOBS ?= auto
# More arguments of pytest: make test ARGS='-k spec -x'
ARGS ?=

# Without cached bytecode every process would compile torch's and timm's thousands of modules again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
COMMA := ,

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo docs docs-check site notebooks test test-avx2 test-slow test-long test-slurm test-ray lint format clean distclean

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@printf '\nStart with: make demo\n'

# --- Installation -----------------------------------------------------------------------------------------------

setup: $(STAMP) ## make .venv and install everything into it (the other targets do it by themselves)
	@echo "ready: $(BIN)/python, with $$($(BIN)/python --version)"

# What somebody asked for by name must not be ignored because .venv is there already.
ASKED := $(filter-out file undefined,$(firstword $(origin PYTHON)))
ifneq ($(and $(filter setup,$(MAKECMDGOALS)),$(ASKED)$(EXTRAS)),)
$(STAMP): FORCE
endif
FORCE:

IN_RANGE := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
VERSION := -c 'import sys; print(sys.version_info[:2])'

$(STAMP): pyproject.toml
	@if $(BIN)/python $(IN_RANGE) 2>/dev/null && { [ -z '$(ASKED)' ] || \
	    [ "$$($(BIN)/python $(VERSION))" = "$$($(PYTHON) $(VERSION) 2>/dev/null)" ]; }; then \
	  echo "1/3 $(VENV) is there, with $$($(BIN)/python --version)"; \
	elif ! $(PYTHON) $(IN_RANGE) 2>/dev/null; then \
	  echo "error: Python 3.11 to 3.14 is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1);" \
	       "name another: make setup PYTHON=python3.12" >&2; exit 2; \
	elif ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "error: $(PYTHON) comes without venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; \
	else \
	  echo "1/3 making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); \
	fi
	@echo "2/3 installing uv, which installs the rest"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "3/3 installing the project and what it needs; the first time a download of some 3 GB, mostly torch"
	@$(BIN)/uv pip install --python $(BIN)/python --editable '.[dev$(if $(EXTRAS),$(COMMA)$(EXTRAS))]'
	@touch $@

# --- Using it ---------------------------------------------------------------------------------------------------

demo: $(STAMP) ## train every rung of a small ladder, then its table and its chart (about 5 minutes on 2 cores)
	@$(BIN)/python -m ladder.train experiment=demo
	@$(BIN)/python -m analysis.table runs/demo
	@$(BIN)/python -m analysis.figures runs/demo --only roadmap

docs: $(STAMP) ## make the documents' tables and pictures again: of runs/published/ and of the published numbers
	@$(BIN)/python docs/build.py

docs-check: $(STAMP) ## tell which of them are out of date
	@$(BIN)/python docs/build.py --check

site: $(STAMP) ## the pages as a static site with search, in site/
	@$(BIN)/python -c 'import material' 2>/dev/null || $(MAKE) --no-print-directory setup EXTRAS=docs
	@$(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

notebooks: export OMP_NUM_THREADS = 1
notebooks: $(STAMP) ## execute every notebook from clean (about 3 minutes)
	@$(BIN)/python -m pytest -m slow tests/notebooks $(ARGS)

# --- Working on it ----------------------------------------------------------------------------------------------

# One thread for each test process: they share the cores, and results do not depend on how many there are.
# worksteal keeps neighbouring tests, and with them a module's fixtures, on one process until another runs dry.
# A process that crashes is replaced, so that the tests after the one that it died of still run.
test: export OMP_NUM_THREADS = 1
PYTEST := $(BIN)/python -m pytest -n $(TEST_JOBS) --maxprocesses 8 --dist worksteal --max-worker-restart 100

test: $(STAMP) ## all tests but the slow ones and those that need a cluster
	@$(PYTEST) -m "not slow and not long and not slurm and not ray" $(ARGS)

test-avx2: export OMP_NUM_THREADS = 1
test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-avx2: $(STAMP) ## the same as on a CPU without AVX-512: torch computes convolutions by other code there
	@$(PYTEST) -m "not slow and not long and not slurm and not ray" $(ARGS)

test-slow: export OMP_NUM_THREADS = 1
test-slow: $(STAMP) ## the tests of more than half a minute: runs and launchers killed over and over
	@$(PYTEST) -m "slow and not long and not slurm and not ray" --ignore tests/notebooks $(ARGS)

test-long: export OMP_NUM_THREADS = 1
test-long: $(STAMP) ## what takes an hour or more: broken studies, odd input, layers of any shape, commands of the documents
	@$(PYTEST) -m long $(ARGS)

test-slurm: export OMP_NUM_THREADS = 1
test-slurm: $(STAMP) ## the Slurm launcher on a real one-node Slurm; needs root: apt-get install slurm-wlm munge
	@$(BIN)/python -c 'import submitit' 2>/dev/null || $(MAKE) --no-print-directory setup EXTRAS=slurm
	@$(BIN)/python -m pytest -m slurm tests/slurm $(ARGS)

test-ray: export OMP_NUM_THREADS = 1
test-ray: $(STAMP) ## the Ray launcher on a real Ray on this machine
	@$(BIN)/python -c 'import ray' 2>/dev/null || $(MAKE) --no-print-directory setup EXTRAS=ray
	@$(BIN)/python -m pytest -m ray tests/ray $(ARGS)

lint: $(STAMP) ## ruff (rules and format) and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## put the code into ruff's format, fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# --- Tidying up -------------------------------------------------------------------------------------------------

clean: ## delete caches and build outputs; never runs/
	@rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . \( -path ./$(VENV) -o -path ./runs -o -path ./.git \) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## clean, and delete .venv; never runs/
	@rm -rf $(VENV)
