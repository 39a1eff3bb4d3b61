# Everything runs from .venv at the root; nothing is installed globally.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup
CONFORMANCE_SETUP := .venv/.setup-conformance
PYTEST := $(BIN)/python -m pytest
COMPILED := build/compiled/.setup
SOURCES := $(shell find kvshim raft -name '*.py') pyproject.toml
# With a C compiler, conformance and measurements are about the compiled program.
ifneq ($(shell command -v cc),)
TESTED := $(COMPILED)
AS_TESTED := KVSHIM_PROGRAM=build/compiled/bin/kvshim
endif
# Debian 12 has 3.11.2, whose asyncio has faults that later ones have not.
OTHER_PYTHON ?= /usr/bin/python3
PORT ?= 2379
JOBS ?= 2
SECONDS ?= 600
BENCH_SECONDS ?= 3600
BENCH ?=
SEEDS ?= 5000
SEED ?=
REQUESTS ?= 200000
FIRST ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup wheel run test other-python conformance differential users compatibility fuzz soak soak-wal soak-cluster many bench bench-hour bench-ha demo-ha fmt lint type proto check clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## make .venv with kvshim and its development tools

$(SETUP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvshim needs Python 3.11 or newer: call make with PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m compileall -q kvshim raft
	@touch $@

$(CONFORMANCE_SETUP): $(SETUP)
	$(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check -e '.[dev,conformance]'
	@touch $@

wheel: $(COMPILED) ## compile the hot path and build a wheel, in build/dist (4 minutes, needs gcc and Python's headers)

$(COMPILED): $(SETUP) $(SOURCES)
	$(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check -e '.[dev,wheel]'
	rm -rf build/dist build/compiled
	HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(BIN)/python -m build --no-isolation --outdir build/dist
	$(BIN)/python -m venv build/compiled
	build/compiled/bin/python -m pip install --quiet --progress-bar off --disable-pip-version-check build/dist/kvshim-*.whl
	@touch $@

run: $(SETUP) ## start a node on 127.0.0.1:2379, data in ./kvshim.data
	$(BIN)/kvshim --name default --data-dir kvshim.data --log-format console

test: $(SETUP) lint type ## lint, types and all tests that need no Go (a quarter of an hour)
	$(PYTEST) tests -n $(JOBS) --dist loadgroup -q

other-python: $(SETUP) ## real clusters on another Python: make other-python OTHER_PYTHON=/usr/bin/python3.12
	rm -rf build/other
	$(OTHER_PYTHON) -m venv build/other
	build/other/bin/python -m pip install --quiet --progress-bar off --disable-pip-version-check .
	KVSHIM_PROGRAM=build/other/bin/kvshim $(PYTEST) tests/cluster -n $(JOBS) --dist loadgroup -q

conformance: $(CONFORMANCE_SETUP) $(TESTED) ## real etcd, etcdctl and kube-apiserver, built from their Go modules
	$(BIN)/python conformance/build.py
	$(AS_TESTED) $(PYTEST) conformance -n $(JOBS) --dist loadgroup --no-loadscope-reorder -q

users: $(CONFORMANCE_SETUP) ## Patroni, CoreDNS and etcdctl's own checks at work on kvshim (needs Debian's postgresql and patroni)
	$(BIN)/python conformance/build.py etcd etcdctl coredns
	$(PYTEST) conformance/users --users -q

differential: $(CONFORMANCE_SETUP) $(TESTED) ## random requests on etcd and kvshim, compared: make differential SEED=7 REQUESTS=200000
	$(BIN)/python conformance/build.py etcd
	$(AS_TESTED) $(BIN)/python -m conformance.differential --requests $(REQUESTS) $(if $(SEED),--seed $(SEED))

fuzz: $(CONFORMANCE_SETUP) ## fuzz all parsers of clients' bytes: make fuzz SECONDS=600
	$(BIN)/python -m conformance.fuzz $(SECONDS)

soak: $(SETUP) ## simulate many clusters: make soak SEEDS=20000 FIRST=0
	SIM_SEEDS=$(SEEDS) SIM_FIRST=$(FIRST) $(PYTEST) tests/sim/test_simulation.py -k trouble -n $(JOBS) -q

soak-wal: $(SETUP) ## ten minutes of lists and writes: WAL, files and memory stay flat
	$(PYTEST) tests/soak/test_wal.py --soak-seconds 600 -q -s

soak-cluster: $(SETUP) ## real clusters hurt for ten minutes a story, histories checked
	$(PYTEST) tests/cluster --cluster-seconds 600 -q -s

many: $(SETUP) ## thirty real nodes join, serve, and replace one that is lost
	KVSHIM_MANY=30 $(PYTEST) tests/cluster/test_many.py -q -s

bench: $(SETUP) $(TESTED) ## compare with etcd in one run, print the goals beside each figure (20 minutes)
	$(AS_TESTED) $(BIN)/python -m bench $(BENCH)

bench-hour: $(SETUP) $(TESTED) ## 300 writes/s and a compaction a minute for an hour: memory and files stay flat
	$(AS_TESTED) $(BIN)/python -m bench --only hour --what hour --hour-seconds $(BENCH_SECONDS)

bench-ha: $(SETUP) $(TESTED) ## three members beside etcd's three: failover, stop, rates, join
	$(AS_TESTED) $(BIN)/python -m bench.ha --join-objects 200000

demo-ha: $(SETUP) ## three nodes join, work under load, lose their leader and get it back
	$(BIN)/python -m bench.demo_ha

fmt: $(SETUP) ## format the code
	$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format .

lint: $(SETUP) ## check style and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .

type: $(SETUP) ## check types
	$(BIN)/mypy

proto: $(SETUP) ## generate the messages from protos/
	$(BIN)/python scripts/proto.py

compatibility: $(SETUP) ## write docs/COMPATIBILITY.md anew
	$(BIN)/python -m scripts.compatibility

clean: ## remove the virtual environment and everything built
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
