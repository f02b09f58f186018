# `make demo` and `make test` need only python3 (>= 3.10, with venv), a C compiler and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BUILD_INPUTS := pyproject.toml setup.py constraints.txt $(wildcard src/selfreg/_core/*.pyx src/selfreg/_core/*.pxd)

.PHONY: help demo test test-long lint types clean

help:
	@echo "make demo       set up $(VENV), run the whole pipeline in BabyAI, write runs/demo/report.html"
	@echo "make test       set up $(VENV), run lint, types and tests"
	@echo "make test-long  the tests that take minutes"
	@echo "make clean      remove $(VENV) and build outputs (runs/ is kept)"

$(READY): $(BUILD_INPUTS)
	@echo "== setting up $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check setuptools cython
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --editable '.[all,dev]'
	@touch $@

demo: $(READY)
	@echo "== selfreg demo: collect, estimate, solve, label, train, evaluate, report"
	$(BIN)/selfreg demo --out runs/demo --overwrite

lint: $(READY)
	@echo "== ruff, cython-lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src

types: $(READY)
	@echo "== mypy"
	$(BIN)/mypy

test: lint types
	@echo "== pytest"
	$(BIN)/python -m pytest -m "not long"

test-long: $(READY)
	$(BIN)/python -m pytest -m long

clean:
	rm -rf $(VENV) build src/selfreg.egg-info src/selfreg/_core/*.c src/selfreg/_core/*.so
