# The newcomer's path: `make demo` shows it working, `make test` proves it here. `make help` lists the rest.

# The first Python between 3.11 and 3.13 found; `make demo PYTHON=/path/to/python3.12` chooses another.
PYTHON := $(or $(PYTHON),$(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done))
# PyTorch has builds per accelerator: its page https://pytorch.org/get-started/locally/ says what to ask for, as in
# make test TORCH="torch==2.13.0 --index-url ADDRESS"
TORCH ?= torch==2.13.0
# So many tests at a time, each with one thread of linear algebra: make test JOBS=4
JOBS ?= 2
# Arguments for the command behind a target: make demo ARGS=--once, make test ARGS="-k replay"
ARGS ?=
# Which lock the agent's environment is made from: `demo` brings an embedded broker, for where there is no Mosquitto.
ARCH := $(shell uname -m)
BROKER := $(shell PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto)
KIND := $(if $(BROKER),agent,demo)
LOCK := requirements/$(KIND)-$(ARCH).txt

export PATH := $(PATH):/usr/sbin:/usr/local/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check bench sbom lock docs clean distclean python system

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv-agent/.$(KIND)  ## two recorded stations, a broker, a forecast (ARGS=--once: stop after two checked forecasts)
	@.venv-agent/bin/edge-agent demo $(ARGS)

test: system .venv/.ready  ## the whole test suite, in an environment with everything (ARGS="-k replay": a part; JOBS=4: four at a time)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

check: .venv/.ready  ## lint, format, types, and documents that no longer match the code
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python docs/generate.py --check

bench: .venv-agent/.$(KIND)  ## latencies and memory of the agent, each beside a baseline (ARGS=nowcast: one of them)
	.venv-agent/bin/python tests/benchmarks/run.py $(ARGS)

sbom: .venv/.ready .venv-agent/.$(KIND)  ## sbom.json: CycloneDX list of what is in the agent's environment
	.venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-format JSON --output-file sbom.json \
		.venv-agent/bin/python

lock: .venv/.ready  ## write requirements/*.txt again, and check them (ARGS=--upgrade: newer releases)
	.venv/bin/python requirements/lock.py $(ARGS)

docs: .venv/.ready  ## write docs/commands.md again
	.venv/bin/python docs/generate.py

clean:  ## remove what building and testing left
	rm -rf build dist *.egg-info sbom.json .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## remove the environments too
	rm -rf .venv .venv-agent

# --- environments: made once, brought up to date when what they are made from changes -------------------------------

.venv-agent/.$(KIND): pyproject.toml $(LOCK) | python
	@test -x .venv-agent/bin/pip || $(PYTHON) -m venv .venv-agent
	@echo "agent environment from $(LOCK) ..."
	@.venv-agent/bin/python -m pip install --quiet --require-hashes --only-binary :all: --requirement $(LOCK)
	@PYTHONWARNINGS=ignore .venv-agent/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

.venv/.ready: pyproject.toml .venv/.torch
	.venv/bin/python -m pip install --quiet --editable ".[factory,dev,demo,plot,nmea,modbus]"
	@touch $@

# Alone and first, so that the build asked for is the one that stays.
.venv/.torch: | python
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet $(TORCH)
	@touch $@

requirements/%.txt:
	@echo "There is no lock for $(ARCH): a 64-bit system is needed (x86_64 or aarch64; on a Raspberry Pi the 64-bit OS)." >&2
	@exit 1

# --- what the machine must have ------------------------------------------------------------------------------------

python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and was not found: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is not one that runs: name another, make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh .ci/debian python3-venv
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments: it lacks venv or ensurepip" >&2; exit 1; }

# Programs the tests drive, and the library LightGBM loads. SYSTEM=skip goes on without them.
system:
	@set --; \
	command -v mosquitto >/dev/null || set -- "$$@" mosquitto; \
	command -v mosquitto_sub >/dev/null || set -- "$$@" mosquitto-clients; \
	command -v openssl >/dev/null || set -- "$$@" openssl; \
	command -v systemd-analyze >/dev/null || set -- "$$@" systemd; \
	command -v gcc >/dev/null && test -e /usr/include/stdio.h || set -- "$$@" gcc libc6-dev; \
	ldconfig -p | grep -q 'libgomp\.so\.1' || set -- "$$@" libgomp1; \
	command -v debootstrap >/dev/null || set -- "$$@" debootstrap; \
	command -v proot >/dev/null || set -- "$$@" proot; \
	command -v qemu-aarch64-static >/dev/null || set -- "$$@" qemu-user-static; \
	test $$# = 0 -o "$(SYSTEM)" = skip || sh .ci/debian "$$@"
