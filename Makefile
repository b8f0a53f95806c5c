# Needs Python 3.10 or newer with pip, and make. Everything else is installed into .venv.
PYTHON ?= python3
PARAMS ?= cpu
NB ?=
ARGS ?=
PYTEST_ARGS ?=
FUZZ_S ?= 600

VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted set-up is taken up again instead of passing for a finished one.
READY := $(VENV)/.ready
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -qq

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup model graph lab run-notebooks run reports demo bench gpu-check test test-all fuzz lint format typecheck strip lock lock-peers clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv and install everything that the lock files pin

$(READY): pyproject.toml requirements.lock requirements-data.lock
	@rm -f $(READY)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("specbeam needs Python 3.10 or newer, \
	and $(PYTHON) is " + sys.version.split()[0] + ": make setup PYTHON=python3.11")'
	@echo 'Installing into $(VENV), which takes a minute or more.'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -r requirements.lock
	$(PIP_INSTALL) --no-deps -r requirements-data.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $(READY)

model: $(READY)  ## Convert the embedded model into the user's cache (once)
	@$(BIN)/python -c 'import specbeam; specbeam.load_pair()'

graph: $(READY)  ## Export the embedded model for ONNX Runtime again, into the package
	rm -f specbeam/engines/graphs/*
	$(BIN)/python -c 'import specbeam as sb; from specbeam.engines.onnx_store import ship; \
	pair = sb.load_pair(draft="trained", engine="torch", packed=False); print(ship(pair.target, pair.draft.state_layers))'

lab: $(READY)  ## Open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

run-notebooks: model  ## Run every notebook and write the reports (PARAMS=smoke|cpu|gpu, default cpu)
	@status=0; $(BIN)/specbeam run all --params $(PARAMS) $(ARGS) || status=$$?; \
	$(BIN)/specbeam reports; exit $$status

run: $(READY)  ## Run one notebook: make run NB=04_speculative_beam PARAMS=smoke ARGS="-p num_beams=8"
	@$(BIN)/specbeam run $(or $(NB),$(error say which notebook, for example make run NB=04_speculative_beam)) \
		--params $(PARAMS) $(ARGS)

reports: $(READY)  ## Write build/reports from the runs in build/runs
	@$(BIN)/specbeam reports

demo: model  ## Open the web page on this machine (ARGS="--port 7861 --target …")
	$(BIN)/specbeam demo $(ARGS)

bench: $(READY)  ## Time the decoders against transformers
	$(BIN)/specbeam bench $(ARGS)

gpu-check: $(READY)  ## On a machine with a GPU: its tests, then transformers and specbeam in turns (12 minutes)
	timeout 360 $(BIN)/python -m pytest -m gpu tests/engines -q || echo 'the tests on the GPU did not pass, or not in six minutes'
	$(BIN)/specbeam gpu-check $(ARGS)

test: $(READY)  ## Run the tests, without those marked slow (PYTEST_ARGS="-k name")
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: $(READY)  ## Run all tests, every notebook included
	$(BIN)/python -m pytest -m "slow or not slow" $(PYTEST_ARGS)

fuzz: $(READY)  ## Decode random cases for FUZZ_S seconds (600), beside transformers' own generate
	$(BIN)/python tests/fuzz.py --seconds $(FUZZ_S) $(ARGS)

lint: $(READY)  ## Check style, and that notebooks hold no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id --verify $(NOTEBOOKS))

format: $(READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY)  ## Check types
	$(BIN)/pyright

strip: $(READY)  ## Remove outputs from the notebooks
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id $(NOTEBOOKS))

# uv only resolves here. Without the CUDA libraries the lock serves every build of torch: a CUDA wheel asks for
# its own.
lock: $(READY)  ## Resolve requirements.lock again from pyproject.toml
	$(BIN)/python -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --upgrade \
		--no-python-downloads --no-annotate --no-header --quiet --output-file build/resolved.txt
	@{ echo '# Made by `make lock` from pyproject.toml, for Python 3.10 to 3.13; install with plain pip.'; \
		grep -vE '^(cuda|nvidia|triton)' build/resolved.txt; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

lock-peers: $(READY)  ## Resolve requirements-peers.lock again, for the libraries of `make bench ARGS=--peers`
	$(BIN)/python -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --group peers --universal --python-version 3.10 --upgrade \
		--no-python-downloads --no-annotate --no-header --quiet --output-file build/resolved-peers.txt
	@{ echo '# Made by `make lock-peers` from pyproject.toml, for Python 3.10 to 3.13; installed with pip --no-deps.'; \
		cat build/resolved-peers.txt; } > build/requirements-peers.lock
	mv build/requirements-peers.lock requirements-peers.lock

clean:  ## Remove what was built: runs, reports, caches (the virtual environment stays)
	rm -rf build .pytest_cache .ruff_cache .hypothesis
