# Two commands do everything, set-up included:
#   make book    trains on the embedded crystals and writes _build/html/index.html
#   make test    runs the fast tests
# `make help` lists the others.

# What the user may set: the interpreter, the folder of real tables, and how much is computed.
PYTHON ?=
DATA ?=
PROFILE ?= $(if $(DATA),mp,demo)
PEERS ?= .venv-peers

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CANDIDATES = $(or $(PYTHON),python3 python3.12 python3.11)
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

# A checkout on PYTHONPATH must not stand in for the one installed here.
unexport PYTHONPATH

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env book pdf bench peer test test-cpus test-slow fuzz kills lint format hooks lock clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## Create .venv with the pinned packages

book: $(STAMP) ## Compute and build the book [PROFILE=demo|ci|mp|paper] [DATA=folder of tables]
	@$(BIN)/cgatlib book build --profile "$(PROFILE)" $(if $(DATA),--data "$(DATA)")

pdf: $(STAMP) ## The same as _build/book.pdf, printed by Chromium or Chrome [PROFILE=] [DATA=]
	@$(BIN)/cgatlib book pdf --profile "$(PROFILE)" $(if $(DATA),--data "$(DATA)")

bench: $(STAMP) ## Measure speed against the released form [DATA=folder of tables]
	@$(BIN)/python -m benchmarks $(if $(DATA),--data "$(DATA)")

peer: $(STAMP) ## Run another method on our splits, in its own environment: METHOD= DATA= [PEERS=.venv-peers]
	@$(BIN)/python -m benchmarks.peers export --data "$(DATA)"
	@test -d "$(PEERS)/$(METHOD)" || python3.11 -m venv "$(PEERS)/$(METHOD)"
	@# CrabNet states a limit of Python that it does not have
	@"$(PEERS)/$(METHOD)/bin/python" -m pip install --quiet --ignore-requires-python -r benchmarks/peers/requirements-$(METHOD).txt
	@"$(PEERS)/$(METHOD)/bin/python" -m benchmarks.peers run --method "$(METHOD)"

test: $(STAMP) ## Run the fast tests [COVERAGE=1 to measure the lines they reach]
	@$(BIN)/python -m pytest $(if $(COVERAGE),--cov)

test-cpus: $(STAMP) ## Run the numerical tests with the kernels of other processors
	@$(BIN)/python tests/processors.py

test-slow: $(STAMP) ## Run the tests that train networks and build pages
	@$(BIN)/python -m pytest -m slow

fuzz: $(STAMP) ## Read damaged files by the thousand [CASES=10000] [SEED=0]
	@PYTHONPATH=tests $(BIN)/python -m fuzz --cases $(or $(CASES),10000) --seed $(or $(SEED),0)

kills: $(STAMP) ## Kill commands at random moments and start them again [KILLS=100] [SEED=0]
	@PYTHONPATH=tests $(BIN)/python -m fuzz.kills --kills $(or $(KILLS),100) --seed $(or $(SEED),0)

lint: $(STAMP) ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP) ## Put the code into the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

hooks: $(STAMP) ## Check every commit with pre-commit
	$(BIN)/pre-commit install

lock: $(BIN)/python ## Bring requirements.lock up to pyproject.toml [UPGRADE=1 for the newest of all]
	$(BIN)/python -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install ".[book,dev]" $(if $(UPGRADE),,--constraint requirements.lock)
	sed -n '/^#/p' requirements.lock > .venv-lock/requirements.lock
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude cgatlib \
	  | grep -viE '^(cuda|nvidia|triton)' | sed 's/+cpu$$//' | LC_ALL=C sort -f >> .venv-lock/requirements.lock
	mv .venv-lock/requirements.lock requirements.lock
	rm -rf .venv-lock

clean: ## Remove what was built; keep the environment and the results of training
	rm -rf _build build dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

distclean: clean ## Remove the environment too
	rm -rf $(VENV) .venv-lock

$(BIN)/python:
	@found=; for python in $(CANDIDATES); do \
	  if "$$python" -c '$(SUITABLE)' > /dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "cgatlib needs Python 3.11 or 3.12 with its venv module (on Debian and Ubuntu the package" \
	    "python3-venv); tried: $(CANDIDATES). Name another with PYTHON=/path/to/python3.12." >&2; \
	  exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)

# The stamp is as old as the last installation: nothing is done while both files are older.
$(STAMP): requirements.lock pyproject.toml $(BIN)/python
	@echo "Installing the pinned packages (the first time takes some minutes)"
	@$(BIN)/python -m pip install -r requirements.lock
	@$(BIN)/python -m pip install --no-deps --no-build-isolation --editable ".[book,dev]"
	@touch $@
