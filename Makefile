# The first command of the README is `make demo`; `make` alone lists the targets.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test cluster-test fault-test lint types contract bench bench-backfill lock clean

help:
	@echo "demo            score and pay a synthetic tournament into demo/"
	@echo "test            all tests that need no services, on two processes"
	@echo "cluster-test    a small company's cluster on loopback: PostgreSQL, Prefect, Dask over TLS, S3, a browser"
	@echo "fault-test      the same services killed, stopped and filled up while they work"
	@echo "lint            ruff, style and format"
	@echo "types           mypy, strict"
	@echo "contract        who may import whom"
	@echo "bench           ratios against the reference implementations"
	@echo "bench-backfill  100 rounds of 1000 models; a quarter of an hour"
	@echo "lock            resolve requirements.lock anew from pyproject.toml"
	@echo "clean           remove what the targets above made"

# The lock holds every version, so the project itself is installed without resolving anything.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)

demo: $(READY)
	$(BIN)/stakeweight demo demo

# What failed is tried once more, by itself: tests that start real processes meet time limits where others keep the
# machine busy. The first failure stays in the output.
AGAIN := --last-failed --last-failed-no-failures none

# A file stays on one process, as its tests share a cluster; the slow ones, `flows` and `infra`, come first, so that
# both processes end together. More processes than two would fight the clusters' workers.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder || $(BIN)/python -m pytest $(AGAIN)

# Both install Debian's postgresql and chromium where they are missing and may be installed; else they say so.
cluster-test: $(READY)
	$(BIN)/python -m tests.services.needed --install
	$(BIN)/python -m pytest -m services || $(BIN)/python -m pytest -m services $(AGAIN)

fault-test: $(READY)
	$(BIN)/python -m tests.services.needed --install
	$(BIN)/python -m pytest -m faults -n 2 --dist loadfile || $(BIN)/python -m pytest -m faults $(AGAIN)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contract: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-backfill: $(READY)
	$(BIN)/python -m benchmarks.bench_backfill

# In an environment of its own, so that nothing gets in that was merely tried out. torch is named without the suffix
# of one build, and the CUDA libraries that come with another build are left out: pip adds what the machine needs.
lock:
	rm -rf build/lock-venv && $(PYTHON) -m venv build/lock-venv
	build/lock-venv/bin/python -m pip install --quiet --editable ".[dev]"
	build/lock-venv/bin/python -m pip check
	build/lock-venv/bin/python -m pip freeze --exclude-editable \
		| grep -vE '^(nvidia-|cuda-|triton==)' | sed -E 's/^(torch==[0-9.]+).*/\1/' > requirements.lock
	rm -rf build/lock-venv

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
