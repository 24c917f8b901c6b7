# Every target sets up what it needs in .venv and says so; a second call finds it done.
# Needs: make and Python >= 3.11 (PYTHON=/path/to/python chooses one).

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	"$$each" -c '$(SUITABLE)' 2>/dev/null && { echo "$$each"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# An environment belongs to one folder, one Python and one pyproject.toml.
STAMP := $(shell { pwd; $(or $(PYTHON),echo none) --version; cat pyproject.toml; } | sha256sum | cut -c 1-16)
installed = $(VENV)/.$(1)-$(STAMP)

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 22

.PHONY: demo
demo: $(call installed,cli) ## the main job: e-mails into a Maildir, one worker killed, nothing lost
	@$(BIN)/python examples/emails/demo.py $(ARGS)

.PHONY: test
test: lint types ## lint, types, unit tests, the contract suite; the exit status says it
	@$(call pytest,-m 'not soak')
	@$(if $(ARGS),,$(matrix) --check)

.PHONY: matrix
matrix: $(call installed,dev) ## docs/matrix.md and the README's table, from the last whole run of `make test`
	@$(matrix)

matrix = $(BIN)/python -m anyqueue.testing.matrix contract-report.json --page docs/matrix.md --readme README.md

.PHONY: coverage
coverage: $(call installed,dev) ## the tests again, with the lines that none of them runs
	@$(call pytest,--cov --cov-report=term -m 'not soak')

.PHONY: test-fast
test-fast: lint types ## the same without faults (killed processes, full disks)
	@$(call pytest,-m 'not fault and not soak')

.PHONY: brokers
brokers: ## start brokers (BROKERS="rabbitmq gearmand"): docker compose where an engine answers, plain processes elsewhere
	@if $(engine); then unset ANYQUEUE_BROKERS_PORT; docker compose up --build --wait $(BROKERS); \
	else "$(PYTHON)" brokers/launch.py up $(BROKERS); fi && \
	for each in $(BROKERS); do "$(PYTHON)" brokers/launch.py url "$$each"; done

.PHONY: brokers-down
brokers-down: ## stop them; their messages stay
	@if $(engine); then docker compose --profile '*' down; fi
	@"$(PYTHON)" brokers/launch.py down

BROKERS := rabbitmq activemq gearmand prosody ejabberd
engine = { docker compose version && docker info; } >/dev/null 2>&1

.PHONY: lint
lint: $(call installed,dev) ## ruff: every rule, and the format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: $(call installed,dev) ## mypy, strict
	$(BIN)/mypy

.PHONY: bench
bench: $(call installed,bench) ## ratios against raw clients and peers, into docs/benchmarks.md (ARGS='--group RabbitMQ')
	@$(BIN)/python benchmarks/run.py --write docs/benchmarks.md --quote README.md --plots docs $(ARGS)

.PHONY: compare
compare: $(call installed,all) ## every broker, one workload: a table, and compare.html (ARGS='--seconds 1')
	@$(BIN)/python benchmarks/compare_all.py $(ARGS)

.PHONY: docs
docs: $(call installed,docs) ## the documentation as a site, in site/; a broken link or an unknown name fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.PHONY: format
format: $(call installed,dev) ## let ruff rewrite
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: clean
clean: ## remove the environment, caches and reports
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* contract-report.json compare.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each target has one process of its own at a time, and mostly waits: more processes than the two cores of CI.
PROCESSES ?= 5
pytest = env CI="$${CI:-true}" $(BIN)/python -m pytest -n $(PROCESSES) --dist loadgroup $(1) $(ARGS)

# One stamp an extra: `cli` is enough for the demo, `dev` tests, `bench` brings the peers.
$(VENV)/.%-$(STAMP): | $(BIN)/python
	@echo "installing anyqueue[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed: apt-get install python3 (or PYTHON=...)' >&2; exit 1; }
	@.ci/venv "$(PYTHON)" $(VENV)
