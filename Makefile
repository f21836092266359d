# momentum_lab: everything from one place, without activating an environment.
# `make PY=python3.12 ...` chooses the interpreter, `make VENV=folder ...` another environment.

PY ?= python3
VENV ?= .venv
FRAMES ?= 1000000
FAULTS ?= 2000
SEED ?= 1
SEEDS ?= 1-1000
DAYS ?= build/days.jsonl
KILL ?=
OTHER_PYTHONS := 3.10 3.11 3.12 3.13

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast test-browser test-clients test-all fuzz soak days kill lint format lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.ok ## install, then trade the sample day against the paper gateway
	@$(VENV)/bin/momentum-lab demo

test: lint ## check style, types and contracts; run all tests but the browser's and the clients'
	@$(VENV)/bin/python -m pytest -m "not browser and not clients"

test-fast: $(VENV)/.ok ## run only the tests that need neither notebook, browser nor time
	@$(VENV)/bin/python -m pytest -q -m "not notebook and not browser and not slow"

test-browser: $(VENV)/.browser ## look at the notebooks in headless Chromium, if there is one
	@$(VENV)/bin/python -m pytest -m browser || { code=$$?; [ $$code -eq 5 ] || exit $$code; }

test-clients: $(VENV)/.ok ## drive the paper gateway with every client library, old and new
	@$(VENV)/bin/python .ci/clients.py .venv-clients
	@$(VENV)/bin/python -m pytest -m clients

test-all: test test-browser test-clients ## the same, then the tests on every other supported Python found here
	@mine=$$($(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(OTHER_PYTHONS); do \
	    [ "$$version" != "$$mine" ] || continue; \
	    python=$$(bash .ci/python $$version) || { echo "Python $$version: not found, left out"; continue; }; \
	    echo "Python $$version"; \
	    $(MAKE) VENV=.venv-$$version PY="$$python" .venv-$$version/.ok; \
	    .venv-$$version/bin/python -m pytest -q -m "not browser and not clients"; \
	done

fuzz: $(VENV)/.ok ## send a million broken frames to the paper gateway (FRAMES=n SEED=n)
	@$(VENV)/bin/python -m tests.fuzz.gateway --frames $(FRAMES) --seed $(SEED)

soak: $(VENV)/.ok ## live through thousands of connection faults in simulated weeks (FAULTS=n SEED=n)
	@$(VENV)/bin/python -m tests.soak --faults $(FAULTS) --seed $(SEED)

days: $(VENV)/.ok ## trade a thousand random days in virtual time, going on where it was left (SEEDS=a-b DAYS=file)
	@$(VENV)/bin/python -m tests.random_days --seeds $(SEEDS) --results $(DAYS)

kill: $(VENV)/.ok ## kill session, gateway or both at every step of a day, fill its disk (KILL=options)
	@$(VENV)/bin/python -m tests.kill_anywhere $(KILL)

lint: $(VENV)/.ok ## check format, style, types and the directions of imports
	@$(VENV)/bin/ruff format --check --quiet . || { echo "Not formatted: run 'make format'."; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@report=$$($(VENV)/bin/lint-imports --no-logo 2>&1) || { echo "$$report"; exit 1; }
	@echo "format, style, types, import contracts: clean"

format: $(VENV)/.ok ## format the code and repair what ruff can repair
	@$(VENV)/bin/ruff format --quiet .
	@$(VENV)/bin/ruff check --quiet --fix .

lock: ## renew poetry.lock
	@$(PY) .ci/lock.py

clean: ## remove environments and caches; what runs have recorded is kept
	@rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find momentum_lab tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp is written last, so that a broken installation is tried again.
$(VENV)/.ok: pyproject.toml poetry.lock
	@command -v "$(PY)" >/dev/null || { echo "There is no '$(PY)' here: install Python 3.10 to 3.13, or name one by 'make PY=...'."; exit 1; }
	@"$(PY)" .ci/install.py $(VENV) dev
	@touch $@

$(VENV)/.browser: $(VENV)/.ok
	@$(VENV)/bin/python .ci/install.py $(VENV) dev,browser
	@touch $@
