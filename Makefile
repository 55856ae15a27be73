# Targets are described in docs/architecture.md. Everything runs from .venv, made on first need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-system lint types bench nightly system-packages locks clean

# a lock file with hashes holds the versions CI has seen; it names no host
$(STAMP): pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m tests.demo

# make test COVERAGE=1 also reports what the tests reach
test: $(STAMP)
ifdef COVERAGE
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n auto -m "not system and not nightly"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
else
	$(BIN)/python -m pytest -q -n auto -m "not system and not nightly"
endif

test-system: $(STAMP)
	$(BIN)/python -m pytest -q -m "system" tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks

nightly: $(STAMP)
	$(BIN)/python -m tests.nightly

# writes the hash-locked requirement files anew; needs uv
locks:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --extra dev pyproject.toml -o requirements-dev.txt

system-packages:
	apt-get update -q
	apt-get install -y -q --no-install-recommends $$(grep -v '^#' tests/system-packages.txt)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist .coverage*
