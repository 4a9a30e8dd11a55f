# PharmaLoop on one machine. `make` lists what there is.

PYTHON ?= python3
BIN := .venv/bin
STACK := $(BIN)/python -m deploy.local.stack
# Tests that start nothing and wait for nobody: they run on every core. The others start engines and wait for
# them: two folders at once (tests/platforms.py).
APART := tests/unit tests/contract tests/replay tests/model tests/charts $(addprefix tests/reliability/test_,sim.py study_rules.py checker.py)
# What the simulated world is told: make run SEED=3 SIZE=small SPEED=2 QA=manual
WORLD := $(if $(SEED),--seed $(SEED)) $(if $(SIZE),--size $(SIZE)) $(if $(SPEED),--speed $(SPEED)) $(if $(QA),--qa $(QA)) $(if $(LOOPS),--loops $(LOOPS))
OPTIONS := $(WORLD) $(if $(ONLY),--only $(ONLY))

# Hundreds of processes start while tests run: what Python has compiled is kept, where a machine says otherwise, too.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: charts charts-docs docs-cli screenshots help setup run up down status restart logs clean test test-all faults long sim sim-night model lint proto proto-baseline bench bench-large evidence lock partner-kit
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Prepare this checkout (idempotent): environment, Kafka, generated code
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "setup: '$(PYTHON)' is not a Python 3.11 or newer: install one (Debian: apt-get install python3.11 python3.11-venv)" \
	       "and run 'make setup PYTHON=python3.11'" >&2; exit 1; }
	@$(PYTHON) -m deploy.local.setup_env

run: setup ## Start everything in the foreground, Ctrl-C stops it [SEED= SIZE=small SPEED= QA=manual LOOPS= UNTIL_DONE=1 ONLY=]
	@$(STACK) run $(OPTIONS) $(if $(UNTIL_DONE),--until-done)

up: setup ## Start everything in the background, return when it is ready [SEED= SIZE=small SPEED= QA=manual LOOPS= ONLY=]
	@$(STACK) up $(OPTIONS)

down: ## Stop what `make up` started
	@test ! -x $(BIN)/python || $(STACK) down

status: setup ## Show what runs and where it listens
	@$(STACK) status

restart: setup ## Start one process of the running stack anew, whether it has ended or stands still [NAME=clinical.hospital-b]
	@$(STACK) restart $(or $(NAME),$(error restart: say which process: make restart NAME=clinical.hospital-b))

logs: setup ## Follow the logs of a running stack
	@$(STACK) logs

clean: down ## Stop everything and forget all data of earlier runs (.state)
	@rm -rf .state

test: setup ## Run the tests [T=path]
	@$(BIN)/python -m deploy.local.browser
ifdef T
	@$(BIN)/python -m pytest $(T)
else
	@failed=0; \
	$(BIN)/python -m pytest -n logical --dist worksteal $(APART) || failed=1; \
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(addprefix --ignore=,$(APART)) || failed=1; \
	exit $$failed
endif

faults: setup ## Run the long faults on whole platforms: disks, networks, clocks, frozen and killed processes [T=path]
	@$(BIN)/python -m pytest -m faults $(or $(T),tests)

long: setup ## Run what takes long and breaks seldom: pages in English and in a pseudo-language, a drill of own files, partners' compiled examples [T=path]
	@$(BIN)/python -m deploy.local.browser
	@$(BIN)/python -m pytest -m long $(or $(T),tests)

test-all: test faults long charts-e2e images images-smoke ## Run the tests, the long ones, the charts on a Kubernetes, and images that are built and started

sim: setup ## Run one simulated world and print its steps [SEED=0]
	@$(BIN)/python -m tests.reliability.sim $(or $(SEED),0)

sim-night: setup ## Run very many simulated worlds on every core [SEEDS=10000 FIRST=0]
	@$(BIN)/python -m tests.reliability.sim --many $(or $(SEEDS),10000) --first $(or $(FIRST),0)

model: setup ## Search every state of the exposure protocol's model, then with each rule left out [ONLY= WITHOUT=]
	@$(BIN)/python -m tests.model $(if $(ONLY),--only $(ONLY)) $(if $(WITHOUT),--without $(WITHOUT))

evidence: setup ## Render which test is evidence for which requirement
	@$(BIN)/python -m deploy.local.evidence

docs-cli: setup ## Write docs/cli.md, and the recorded outputs of the tests, from the command itself
	@$(BIN)/python -m services.cli.reference docs/cli.md
	@$(BIN)/python -m tests.unit.cli.golden

screenshots: setup ## Take a picture of each page of the platform that runs here -> docs/screenshots
	@$(BIN)/python -m deploy.local.browser
	@$(BIN)/python -m tests.ui.gallery

bench: setup ## Run the benchmarks, write docs/benchmarks.md [T=path PROFILE=1]
	@$(if $(PROFILE),BENCH_PROFILE=1) $(BIN)/python -m tests.bench $(T)

bench-large: setup ## Run the benchmark of a city: a million dispenses, from a lot to its patients
	@$(BIN)/python -m tests.bench tests/bench/bench_trace.py

# Types are checked on every core; mypy's status 2 says that one of its processes did not start within a few seconds.
lint: setup ## Check style, types, architecture and contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -n auto || { test $$? -eq 2 && $(BIN)/mypy; }
	$(BIN)/lint-imports
	$(BIN)/python -m deploy.local.check_sizes
	$(BIN)/buf lint proto
	$(BIN)/buf breaking proto --against proto/baseline.binpb

proto: setup ## Generate code from proto/ where it changed
	@$(BIN)/python -m deploy.local.protos

proto-baseline: setup ## Accept the contract as it is now as the one that `make lint` compares with
	$(BIN)/buf build proto -o proto/baseline.binpb

partner-kit: setup ## Make the bundle for partners: contract, stubs, reference, examples -> dist/
	@$(BIN)/python -m deploy.partners.kit

lock: setup ## Resolve the dependencies anew and write requirements/ [UPGRADE=1]
	@$(BIN)/python -m deploy.local.lock $(if $(UPGRADE),--upgrade)

.PHONY: cluster cluster-down charts-e2e
cluster: setup ## Start a Kubernetes control plane without containers in the background [KUBERNETES=1.34]
	@$(BIN)/python -m deploy.cluster up $(if $(KUBERNETES),--version $(KUBERNETES))

cluster-down: ## Stop what `make cluster` started
	@test ! -x $(BIN)/python || $(BIN)/python -m deploy.cluster down

charts-e2e: setup ## Really install the charts on every Kubernetes that is tried [KUBERNETES=1.34 T=path]
	@$(BIN)/python -m deploy.cluster build $(if $(KUBERNETES),--version $(KUBERNETES))
	@KUBERNETES=$(KUBERNETES) $(BIN)/python -m pytest -m cluster $(or $(T),tests/charts/e2e)

charts: setup ## Check the charts: lint, schemas, policies, refusals, held variants, rights
	@$(BIN)/python -m deploy.charts.generate --check
	@$(BIN)/python -m pytest tests/charts --ignore tests/charts/e2e

charts-docs: setup ## Write what the charts take from the project, their tables of values, and the held variants
	@$(BIN)/python -m deploy.charts.generate
	@$(BIN)/python -m deploy.charts.golden

.PHONY: watch watch-tools

watch: setup ## Watch the stack that runs here with Prometheus and Alertmanager; what fires is shown, Ctrl-C ends it
	@$(BIN)/python -m deploy.watch

watch-tools: setup ## Fetch Prometheus, Alertmanager and their checkers where this machine has none
	@$(BIN)/python -m deploy.watch.tools

.PHONY: dashboard dashboards dashboards-check
dashboard: setup ## Show a dashboard in the terminal, by the Prometheus of `make watch` [BOARD=loops ALL=1]
	@$(BIN)/python -m deploy.grafana.show $(BOARD) $(if $(ALL),--all)

dashboards: setup ## Make Grafana's dashboards, their page and the chart's copies from deploy/grafana/boards
	@$(BIN)/python -m deploy.grafana
	@$(BIN)/python -m deploy.charts.generate

dashboards-check: setup ## Tell which panels of the dashboards have no data on the stack that runs here [PROMETHEUS=url]
	@$(BIN)/python -m deploy.grafana.check $(if $(PROMETHEUS),--prometheus $(PROMETHEUS))

.PHONY: images images-smoke

images: setup ## Build images here without a container engine, as root [ONLY="alerting portal"]; see deploy/images
	@$(BIN)/python -m deploy.images.build $(ONLY)

images-smoke: setup ## Start images that `make images` built in a chroot, until they answer health [ONLY="alerting portal"]
	@$(BIN)/python -m deploy.images.smoke $(ONLY)

.PHONY: drill
drill: setup ## Plant a fault in the stack that runs here, see its alert, follow its runbook, judge [NAME=site-down]
	@$(BIN)/python -m deploy.drill $(if $(NAME),run $(NAME),list)
