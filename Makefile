# Everything a developer runs. Each target first makes .venv hold what requirements/*.txt name, so a fresh clone needs
# only Python 3.11 or newer, git and make. Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FLOW ?= weather-report
STACK ?= stack.yml
JOBS ?= 2
TESTS ?=
BATTERY ?=

INSTALL := $(PYTHON) requirements/install.py
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" $(UPGRADE)

# What starts no server and no browser, and takes a minute or two.
FAST := tests/test_*.py $(addprefix tests/,dsl graph engine golden http transport logs security)

.PHONY: help demo up servers test fast joins battery lint format types layers wheel check lock clean demo-tools dev-tools

help: ## Print what can be done
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

demo: demo-tools ## Run the example flow and show its result
	@$(BIN)/faasflow run $(FLOW) -f $(STACK) </dev/null

up: demo-tools ## Serve the functions of stack.yml behind a local gateway
	@$(BIN)/faasflow up -f $(STACK)

servers: dev-tools ## Unpack the servers that tests run against
	@$(BIN)/python tests/servers/install.py

test: dev-tools servers ## Run the tests; some of them: make test TESTS=tests/docs
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

fast: lint types layers ## Check style and types, and run the tests that start no server
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -k "not _server and not vanished" $(FAST)

joins: dev-tools servers ## Let a thousand branches arrive at one join at once, a hundred times on each store
	@JOIN_REPETITIONS=100 $(BIN)/python -m pytest -n $(JOBS) tests/stores/test_joins.py

battery: dev-tools servers ## Look for what loses, doubles or falsifies; for hours: make battery BATTERY=--long
	@$(BIN)/python -m tests.battery --jobs $(JOBS) $(BATTERY)

lint: dev-tools ## Check format and style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: dev-tools ## Format, and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: dev-tools ## Check types
	@$(BIN)/mypy

layers: dev-tools ## Check that imports point down
	@$(BIN)/lint-imports --no-logo

wheel: dev-tools ## Build the wheel and try it in an environment of its own
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --no-isolation >build.log || { cat build.log; exit 1; }
	@rm build.log
	@$(INSTALL) runtime --venv build/venv --wheel "$$(ls dist/*.whl)"
	@cd build && venv/bin/faasflow --help >/dev/null
	@ls dist/*.whl

check: lint types layers wheel demo test ## All of the above that can fail

lock: dev-tools ## Write requirements/*.txt from pyproject.toml; newest versions: make lock UPGRADE=--upgrade
	@$(COMPILE) pyproject.toml --extra examples --extra nats --extra otel --extra redis --group dev --group build --output-file requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra examples --group test --constraint requirements/dev.txt --output-file requirements/demo.txt
	@$(COMPILE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
	@$(COMPILE) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## Remove everything that was installed or built
	rm -rf $(VENV) .servers build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

demo-tools:
	@$(INSTALL) demo --venv $(VENV)

dev-tools:
	@$(INSTALL) dev --venv $(VENV)
