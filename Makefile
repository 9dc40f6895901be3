# Everyday commands; `make help` lists them. Whatever takes more than a few lines is in a script or in `manasight`.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3

STATE := .manasight
BIN := .venv/bin

# If it is set, every start of a command compiles all its modules: half a minute instead of ten seconds.
unexport PYTHONDONTWRITEBYTECODE
# Steps run in order: the ports are checked before minutes of training.
.NOTPARALLEL:

include docker/docker.mk
include release/release.mk
include k8s/k8s.mk

.PHONY: help install demo demo-model ports test fuzz lint format lock clean chromium

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

install: .venv/installed ## install `manasight` into .venv

demo: .venv/installed ports $(STATE)/demo-model ## draw cards, train on them, serve the result: no Docker, no server (PORT=, MLFLOW_PORT=)
	@exec $(BIN)/manasight serve --port $(PORT) --mlflow_port $(MLFLOW_PORT)

ports: .venv/installed
	@$(BIN)/manasight serve --port $(PORT) --mlflow_port $(MLFLOW_PORT) --check

# An interrupted training leaves its run's ID here: status 75, after Ctrl-C or when the terminal was closed.
INTERRUPTED := $(STATE)/demo-interrupted

demo-model: .venv/installed $(STATE)/data/demo ## train the demo's model again, or resume its interrupted training
	@trap : INT HUP TERM; \
	set -- --config trainer/experiments/demo.yaml --data.root $(STATE)/data/demo; \
	[ ! -s $(INTERRUPTED) ] || set -- --resume "$$(cat $(INTERRUPTED))"; rm -f $(INTERRUPTED); \
	echo "$(BIN)/manasight train $$*"; $(BIN)/manasight train "$$@"; status=$$?; \
	[ $$status != 75 ] || { cp "$${MANASIGHT_HOME:-$(STATE)}/runs/latest" $(INTERRUPTED); echo "The next 'make demo' resumes it too."; }; \
	[ $$status = 0 ] || exit $$status; touch $(STATE)/demo-model

$(STATE)/demo-model: | $(STATE)/data/demo
	@$(MAKE) --no-print-directory demo-model

$(STATE)/data/demo:
	$(BIN)/manasight data demo $@ --count $(or $(CARDS),3600)

.venv/installed: pyproject.toml requirements/dev.txt requirements/torch.txt requirements/install.sh
	@PYTHON=$(PYTHON) requirements/install.sh

chromium: .venv/installed
	@tests/browser/chromium.sh

test: .venv/installed chromium ## run the tests
	$(BIN)/pytest tests/unit tests/k8s tests/release tests/browser -n 2 --dist loadscope --no-loadscope-reorder --durations 15

fuzz: .venv/installed ## send random files to the readers for about five minutes
	MANASIGHT_FUZZ_EXAMPLES=$(or $(EXAMPLES),10000) $(BIN)/pytest -m hypothesis tests/unit/test_app_*.py tests/unit/test_model_metadata.py

lint: .venv/installed versions workflows lint-docker ## check style, calls, versions, workflows, Dockerfiles and scripts
	$(BIN)/ty check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@! git grep -nIiP '$(AVOIDED)' -- ':!*.lock' ':!requirements/*.txt' ':!Makefile' ':!docs/glossary.md' || { echo "lint: write these lines in plain English" >&2; exit 1; }

# Phrases of older texts that read like a translation.
AVOIDED := \banew\b|\bmend(s|ed|ing)?\b|program interface|as none can|\bwhat one\b|(?<!there )\bis no (?!longer\b|such\b|one\b)\w+|\btold\b

format: .venv/installed ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/installed ## write the lock files from pyproject.toml
	@requirements/lock.sh

clean: ## remove .venv, caches and .manasight: all runs and models of this folder; asks first
	@if [ -e $(STATE) ] && [ -z "$(YES)" ]; then \
	  question="This deletes all runs and models in $(STATE)."; \
	  [ -t 0 ] || { echo "$$question Say YES=1 to do it without being asked." >&2; exit 1; }; \
	  read -r -p "$$question Type yes to go on: " answer; \
	  [ "$$answer" = yes ] || { echo "Nothing was changed." >&2; exit 1; }; \
	fi
	rm -rf .venv $(STATE) .pytest_cache .ruff_cache .hypothesis .schemathesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
