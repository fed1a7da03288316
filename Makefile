# make repro   the default graph: corpora -> base -> chains -> scores -> comparison
# make test    the tests          make check   what CI checks: ruff, mypy, tests
# make smoke   the whole graph at nano settings, in a clone of its own under .scratch/
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test check smoke lint

repro: .venv/installed
	dvc repro

test: .venv/installed-dev
	python -m pytest -n 2 --dist worksteal

lint: .venv/installed-dev
	ruff check .
	ruff format --check .
	mypy

check: lint test

smoke: .venv/installed-dev
	python -m tests.nano .scratch/smoke

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements-dev.txt
	touch $@
