# Everything a person runs. `make demo` and `make test` set themselves up on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# TORCH_BACKEND=cpu takes a small CPU build of torch; see uv's --torch-backend.
BACKEND := $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND),)

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Make .venv with the pinned requirements

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode $(BACKEND) --no-deps -r requirements.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps -e .
	touch $(READY)

demo: setup ## The main job: ICONS against random and full data on the tiny world
	$(BIN)/python run.py experiment=icons_20pct executor=local workers=2

test: setup ## Run the tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

coverage: setup ## Run the tests, and say which lines of src no test has run
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term

test-slurm: setup ## Run the tests that start a SLURM of two nodes (as root; apt-get install slurm-wlm munge)
	REQUIRE_SLURM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm tests/slurm

fuzz: setup ## Try 10,000 odd inputs a test on everything that reads users' files (a quarter of an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## Measure speed and memory, stage by stage
	$(BIN)/python -m benchmarks

STUDIES := $(dir $(wildcard experiments/*/study.yaml))
DRAWN := $(if $(RERUN),$(STUDIES),$(filter $(STUDIES),$(dir $(wildcard experiments/*/results.csv))))
PREDICTED := $(dir $(wildcard experiments/counterfactual/losses.csv))
MAPPED := $(wildcard experiments/consensus_map/results.csv)

base: setup ## Make both tiny bases anew and compare them with those that ship (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python run.py -m experiment=pretrain_tiny pretrain.width=96,64 executor=local workers=2
	$(BIN)/python -m icons_repro.tiny.shipping outputs

experiments: setup ## Tables and figures of experiments/ from their results.csv; RERUN=1 runs what they lack (hours)
	$(if $(DRAWN),$(BIN)/python -m icons_repro.studies $(if $(RERUN),--run) $(DRAWN))
	$(if $(PREDICTED),$(BIN)/python -m icons_repro.studies.counterfactual $(PREDICTED))
	$(BIN)/python -m icons_repro.studies.paper_figures experiments/paper_figures $(if $(RERUN),--run)
	$(if $(RERUN)$(MAPPED),$(BIN)/python -m icons_repro.studies.consensus_map experiments/consensus_map $(if $(RERUN),--run))

docs: setup ## Build the site of docs/ into outputs/site
	$(BIN)/python -m mkdocs build --quiet
	@echo "open outputs/site/index.html"

gpu-check: setup ## Ten minutes on one GPU: is it right there, and how fast (SIZE=tiny, 1b or 7b)
	$(BIN)/python -m icons_repro.gpu_check $(if $(SIZE),--size $(SIZE)) --json outputs/gpu_check.json

report: setup ## One page about all runs below RUNS (default: outputs/runs)
	$(BIN)/python -m icons_repro.report --page $(or $(RUNS),outputs/runs)/sweep.html $(or $(RUNS),outputs/runs)

requirements: setup ## Resolve the pinned requirements again
	VIRTUAL_ENV=.venv $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
		--extra eval --extra cluster --extra transport --extra dev --no-annotate --no-header --output-file requirements.txt --upgrade

clean: ## Delete all results and caches (always safe)
	rm -rf outputs

.PHONY: help setup demo base test coverage test-slurm fuzz lint bench experiments docs gpu-check report requirements clean
