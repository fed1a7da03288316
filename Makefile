# make install what is needed, into .venv
# make repro   the default graph: corpora -> base -> chains -> scores -> comparison
# make test    the tests          make check   ruff, mypy, the audit and the tests
# make audit   known weaknesses of the pinned packages, where the advisory service can be reached
# make bench   ours beside TRL, transformers, mlx-lm and datasets -> bench/results.md; about an hour after `make repro`
# make graph   which part of stages/ imports which -> build/imports.dot, and build/imports.svg where Graphviz is installed
# make smoke   the whole graph at nano settings, in a clone of its own under .scratch/
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install repro test check smoke lint audit bench graph

install: .venv/installed

repro: .venv/installed
	python -m stages repro --jobs auto

test: .venv/installed-dev
	python -m pytest -n 2 --dist worksteal

lint: .venv/installed-dev
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	check-jsonschema --builtin-schema vendor.gitlab-ci .gitlab-ci.yml
	shellcheck .ci/run .ci/report elsewhere/*.sh
	hadolint Containerfile

audit: .venv/installed-dev
	@if python -c "import urllib.request; urllib.request.urlopen('https://pypi.org/pypi/PyYAML/6.0.3/json', timeout=10)" 2>/dev/null; \
	then pip-audit --requirement requirements.txt --disable-pip --no-deps; \
	else echo "audit skipped: pypi.org, which has the advisories, cannot be reached from here"; fi

check: lint audit test

# A folder of its own, so that what ours is measured beside is not installed where ours is developed.
bench: .scratch/bench/.venv/installed
	PATH="$(CURDIR)/.scratch/bench/.venv/bin:$$PATH" dvc repro train@gec-002
	.scratch/bench/.venv/bin/python -m bench

smoke: .venv/installed-dev
	python -m tests.nano .scratch/smoke

graph: .venv/installed-dev
	mkdir -p build
	import-linter drawgraph stages > build/imports.dot
	@if command -v dot > /dev/null; then dot -Tsvg build/imports.dot -o build/imports.svg; \
	else echo "build/imports.dot is written; for build/imports.svg install Graphviz, which has dot"; fi

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.txt --editable .
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements-dev.txt
	touch $@

.scratch/bench/.venv/installed: requirements.txt bench/requirements.txt
	$(PYTHON) -m venv .scratch/bench/.venv
	.scratch/bench/.venv/bin/python -m pip install --disable-pip-version-check --quiet \
		--requirement requirements.txt --requirement bench/requirements.txt
	touch $@
