# setup  the environment: .venv with the CLI at .venv/bin/buildtool
# demo   build examples/hello and run it (twice: the second build is cached)
# test   the whole suite
# lint types contracts   what CI checks besides
# fuzz   requests made from the API's description, FUZZ of them for each operation
# bench  the benchmarks, side by side with a local dockerd
# lock   renew the locked requirements (needs uv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 4
TESTS ?= tests
FUZZ ?= 50

.PHONY: setup demo test lint types contracts fuzz bench lock clean
.DEFAULT_GOAL := setup

setup: $(VENV)/.setup
	@$(BIN)/python -m compileall -q buildtool cache grammar

$(VENV)/.python:
	@.ci/packages setup
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "buildtool needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.setup: $(VENV)/.python pyproject.toml requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# a path instead of setuptools' import hook: it costs every start of the CLI 8 ms
	@mkdir -p $(VENV)/src && ln -sfn ../../buildtool $(VENV)/src/buildtool
	@for hook in $(VENV)/lib/python3*/site-packages/__editable__.buildtool-*.pth; do echo "$(CURDIR)/$(VENV)/src" > "$$hook"; done
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: setup
	@.ci/packages demo
	$(BIN)/buildtool image inspect busybox >/dev/null 2>&1 || $(BIN)/buildtool image bootstrap busybox
	$(BIN)/buildtool build --progress plain -t hello examples/hello
	$(BIN)/buildtool run --rm hello

test: setup $(VENV)/.setup-dev
	@.ci/packages test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

lint: setup $(VENV)/.setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup $(VENV)/.setup-dev
	$(BIN)/mypy

contracts: setup $(VENV)/.setup-dev
	$(BIN)/lint-imports

fuzz: setup $(VENV)/.setup-dev
	@.ci/packages test
	BUILDTOOL_FUZZ=$(FUZZ) $(BIN)/python -m pytest -n $(WORKERS) tests/e2e/test_api_fuzz.py tests/e2e/test_api_input.py

bench: setup
	@.ci/packages bench
	$(BIN)/python -m tests.bench

lock:
	uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements.txt
	uv pip compile pyproject.toml --extra build --group dev -c requirements.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements-dev.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
