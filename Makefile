# Every target prepares what it needs. make ends with 2 whatever failed: scripts call .venv/bin/resilience (README).
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STACK ?= local
TIER ?=
ARGS ?=
SHELL_FILES := .ci/run setup/as-caller setup/environment setup/packages setup/say.sh setup/caller.sh \
	stacks/postgresql/start.sh stacks/postgresql/patroni.sh stacks/postgresql/first.sh stacks/rabbitmq/start.sh \
	stacks/postgresql/archive-folder.sh stacks/postgresql/archive-store.sh \
	src/resilience/backend/local/member-init.sh src/resilience/backend/local/end-build.sh
PYTHON_FOLDERS := src loadgen services tests bench

# Debian keeps ip and nft where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin

# Under sudo, whatever stays on the machine belongs to the user who typed it.
ifneq ($(filter-out 0,$(SUDO_UID)),)
AS_CALLER := setup/as-caller
export PYTHONDONTWRITEBYTECODE := 1
export PYTEST_ADDOPTS := -p no:cacheprovider
endif

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "  make %-15s %s\n", $$1, $$2 }' Makefile

# --- runs ------------------------------------------------------------------------------------------------------------

chaos-%: environment ## run the scenario NAME, e.g. make chaos-redis-failover (ARGS=… for resilience run)
	@test -n "$(wildcard scenarios/$*.yaml scenarios/*/$*.yaml)" || exec $(BIN)/resilience run $*
	@test "$(STACK)" != local || setup/packages sandbox
	@$(BIN)/resilience run $* --stack $(STACK) $(ARGS)

.PHONY: smoke nightly calibrate
smoke: SUITE := smoke
nightly: SUITE = nightly$(TIER:%=-%)
calibrate: SUITE = calibration$(TIER:%=-%)
smoke nightly calibrate: environment
	@test "$(STACK)" != local || setup/packages sandbox
	@$(BIN)/resilience suite $(SUITE) --stack $(STACK) $(ARGS)

smoke: ## run a few scenarios, about 8 minutes: one table, one JUnit file
nightly: ## run every scenario but those that only a cluster can play, 90 minutes (TIER=redis: 30)
calibrate: ## run configurations known to lose data, or to keep it: is that found? 100 minutes (TIER=redis: 35)

.PHONY: list
list: environment ## list the scenarios
	@$(BIN)/resilience list

.PHONY: up
up: environment ## bring a stack up to look at; it stays up (ARGS="--for 30m" or a scenario's name)
	@test "$(STACK)" != local || setup/packages sandbox
	@$(BIN)/resilience up --stack $(STACK) $(ARGS)

.PHONY: down
down: environment ## end the stack that is up
	@$(BIN)/resilience down --stack $(STACK)

.PHONY: status
status: environment ## show the stack that is up: addresses, members, roles
	@$(BIN)/resilience status --stack $(STACK)

.PHONY: heal
heal: environment ## end every injection that a broken-off run has left
	@$(BIN)/resilience heal --stack $(STACK) $(ARGS)

.PHONY: doctor
doctor: environment ## say what this machine can do and what it lacks, and how to mend it
	@$(BIN)/resilience doctor

# --- what runs and tests need ----------------------------------------------------------------------------------------

.PHONY: environment
environment: ## make .venv from requirements.lock, if it is not up to date
	@setup/environment

.PHONY: image
image: environment ## build the stack image (STACK=kind: the project's container image), if it is not there
	@test "$(STACK)" != local || setup/packages sandbox
	@$(BIN)/resilience image --stack $(STACK)

# --- tests -----------------------------------------------------------------------------------------------------------

.PHONY: test
test: check test-malformed test-component test-scenario ## run all that CI runs: what check checks, then what takes longer

.PHONY: test-unit
test-unit: environment ## run the unit tests (ARGS=… for pytest)
	@$(AS_CALLER) $(BIN)/pytest --numprocesses auto tests/unit $(ARGS)

.PHONY: test-malformed
test-malformed: environment ## run the tests with spoilt input: files, records, command lines
	@$(AS_CALLER) $(BIN)/pytest --numprocesses auto tests/malformed $(ARGS)

.PHONY: test-component
test-component: image ## run the tests of one real thing at a time, in a sandbox
	@setup/packages browser
	@$(BIN)/resilience sandbox -- $(BIN)/pytest -m "component and not slow" tests/component $(ARGS)

.PHONY: test-scenario
test-scenario: image ## run the tests that are whole runs, the short ones
	@$(BIN)/pytest -m "scenario and not slow and not kill" tests/scenario $(ARGS)

.PHONY: test-slow
test-slow: image ## run the long tests, which CI leaves out: calibration, and a service that lies
	@$(BIN)/pytest -m slow tests/scenario $(ARGS)

.PHONY: test-kill
test-kill: image ## kill each process of a run in each of its phases: is anything left? half an hour (KILL_SEED=7)
	@$(BIN)/pytest -rP tests/scenario/test_kill_matrix.py $(ARGS)

.PHONY: test-kind
test-kind: environment ## run the tests in a kind cluster: the one that is up, or one that is made and deleted
	@$(BIN)/pytest -m kind tests/kind $(ARGS)

.PHONY: check
check: environment ## check format, lint, types and unit tests; changes nothing
	@$(AS_CALLER) $(BIN)/ruff format --check $(PYTHON_FOLDERS)
	@$(AS_CALLER) $(BIN)/ruff check $(PYTHON_FOLDERS)
	@$(AS_CALLER) $(BIN)/mypy
	@$(BIN)/yamllint --strict .
	@$(BIN)/shellcheck -x $(SHELL_FILES)
	@$(BIN)/codespell
	@$(BIN)/validate-pyproject pyproject.toml
	@$(AS_CALLER) $(BIN)/pytest --quiet --numprocesses auto tests/unit

.PHONY: fix
fix: environment ## write what check only checks: format, and what lint can mend
	@$(AS_CALLER) $(BIN)/ruff check --fix-only $(PYTHON_FOLDERS)
	@$(AS_CALLER) $(BIN)/ruff format $(PYTHON_FOLDERS)
	@$(AS_CALLER) $(BIN)/codespell --write-changes

.PHONY: bench
bench: environment ## measure what is listed in CONTRIBUTING; writes reports/bench.md (ARGS="--repeats 3 recorder")
	@setup/packages sandbox
	@$(BIN)/python -m bench $(ARGS)

# --- files that are made from others ---------------------------------------------------------------------------------

.PHONY: lock
lock: ## choose the newest packages that fit pyproject.toml, and write requirements.lock
	@setup/environment uv pip compile pyproject.toml --group dev --universal --generate-hashes --upgrade --quiet \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.12 -o requirements.lock
	@setup/environment

.PHONY: golden
golden: environment ## judge the golden runs again and save what is found (ARGS=--record: record them again, too)
	@$(AS_CALLER) $(BIN)/python -m tests.golden.renew $(ARGS)

.PHONY: clean
clean: ## remove .venv, tools' caches and build outputs; keeps reports and the cache folder
	@rm -rf .venv build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
