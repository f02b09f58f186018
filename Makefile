# `make demo` and `make test` need only python3 (>= 3.10, with venv), a C compiler and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
comma := ,
READY := $(VENV)/.ready
# Where nothing may be written, each process would compile torch anew, for five seconds.
unexport PYTHONDONTWRITEBYTECODE
DEMO_READY := $(VENV)/.ready-demo
BUILD_INPUTS := pyproject.toml setup.py constraints.txt $(wildcard src/selfreg/_core/*.pyx src/selfreg/_core/*.pxd \
	src/selfreg/_core/*.h)
KERNEL_TESTS := tests/planning/test_hard.py tests/planning/test_slow_chains.py tests/planning/test_structure.py tests/planning/test_qualitative.py \
	tests/test_mdp.py tests/planning/test_robust.py tests/planning/test_penalized.py tests/_core
# What `make check` runs: no torch, no training, property tests on few random models.
CHECK_TESTS := tests/planning tests/_core tests/_util tests/models tests/data tests/test_mdp.py tests/test_rooms.py tests/test_word_check.py \
	tests/estimate/test_model.py tests/estimate/test_validity.py

# `make test-long` runs their properties on eight times as many models as `make test`.
PROPERTY_TESTS := tests/planning tests/_core tests/models tests/test_mdp.py tests/estimate/test_model.py

# $(call instrumented,NAME,SWITCH): kernels built with SWITCH=1 from the sdist: the build in use stays as it is, and what the
# sdist lacks shows.
define instrumented
	@echo "== building kernels with $(2)=1 in build/$(1)"
	@rm -rf build/$(1) && mkdir -p build/$(1)
	@tar -xzf build/sdist/*.tar.gz -C build/$(1) --strip-components 1
	@cd build/$(1) && $(2)=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	@PYTHONPATH=build/$(1)/src $(BIN)/python -c "from importlib.util import find_spec; assert '/build/$(1)/' in find_spec('selfreg').origin"
endef

# The solver's tests run on kernels with checks too where sanitizers are known to work; the twins are no kernels.
INSTRUMENTED := $(and $(filter Linux,$(shell uname -s)),$(shell command -v gcc))

.PHONY: help demo docs build check check-tests test tests instrumented test-long test-adapters test-litellm-proxy sdist test-debug test-sanitize lint types clean

help:
	@echo "make demo       set up $(VENV), run the whole pipeline in BabyAI, write runs/demo/report.html"
	@echo "make test       set up $(VENV), run lint, types and tests with coverage (on Linux with gcc test-debug and test-sanitize too)"
	@echo "make docs       build the site, in build/site"
	@echo "make check      lint, types and the fast tests, in under two minutes; for use while editing"
	@echo "make build      build the kernels that changed, in place"
	@echo "make test-long  the tests that take minutes, with other solvers (extra bench) to compare with"
	@echo "make test-adapters  the tests of the frameworks in src/selfreg/integrations; installs them first"
	@echo "make test-debug     the solver's tests on kernels with bounds checks"
	@echo "make test-sanitize  the solver's tests under address, leak and undefined-behaviour sanitizers (Linux, gcc)"
	@echo "make clean      remove $(VENV) and build outputs (runs/ is kept)"

# $(call install,EXTRAS): this project in $(VENV) with these extras. What is there already is not installed again, and Python
# compiles what is imported when it is imported first, not all that is installed.
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
define install
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools cython
	$(PIP) --no-build-isolation --editable '.[$(1)]'
	@touch $@
endef

# What `make demo` needs, without Ray, stable-baselines3, TextWorld, peft and the tools of the tests.
$(DEMO_READY): $(BUILD_INPUTS)
	@echo "== setting up $(VENV) for the demo (a minute or two the first time)"
	$(call install,demo)

$(READY): $(DEMO_READY)
	@echo "== setting up $(VENV) for the tests (a few minutes the first time)"
	$(call install,all$(comma)dev$(comma)docs)

demo: $(DEMO_READY)
	@echo "== selfreg demo: collect, estimate, solve, label, train, evaluate, report"
	$(BIN)/selfreg demo --out runs/demo --overwrite

docs: $(READY)
	@echo "== the site, in build/site; warnings and broken links are errors"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

lint: $(READY)
	@echo "== ruff, cython-lint, words"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src
	$(BIN)/python tools/check_words.py

types: $(READY)
	@echo "== mypy"
	$(BIN)/mypy

build: $(READY)
	$(BIN)/python setup.py --quiet build_ext --inplace

check: $(READY)
	@$(MAKE) --no-print-directory -j 2 lint types check-tests

check-tests: $(READY)
	@echo "== pytest, the fast tests"
	$(BIN)/python -m pytest -m "not long" --hypothesis-profile=quick $(CHECK_TESTS)

# The instrumented builds and their tests run beside the others; what they print comes when they have ended.
test: $(READY)
	@$(MAKE) --no-print-directory -j 2 lint types
	@$(MAKE) --no-print-directory -j 2 tests $(if $(INSTRUMENTED),instrumented)

instrumented: sdist
	@$(MAKE) --no-print-directory test-debug test-sanitize > build/instrumented.log 2>&1; status=$$?; \
		cat build/instrumented.log; exit $$status

# Slipcover measures without tracing, which would cost a third of the time; the kernels' twins are left out.
tests: $(READY)
	@echo "== pytest"
	$(BIN)/python -m slipcover --source src/selfreg --omit 'src/selfreg/_core/*_py.py,src/selfreg/_core/*_nb.py' --skip-covered \
		-m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

# With the solvers of others (extra `bench`), which must agree with ours.
test-long: $(READY)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --editable '.[all,dev,bench]'
	$(BIN)/python -m pytest -m long
	$(BIN)/python -m pytest -m "not long" --hypothesis-profile=thorough $(PROPERTY_TESTS)

# Pins are complete, so nothing is resolved: that takes pip ten minutes.
test-adapters: $(READY)
	$(PIP) --no-deps --requirement constraints-adapters.txt
	$(BIN)/python -m pytest -m "not long" tests/integrations
	@$(MAKE) --no-print-directory test-litellm-proxy

# The pins of litellm[proxy] exclude those of others: an environment of its own, on top of the one with all else.
PROXY_VENV := build/litellm-proxy
test-litellm-proxy: $(PROXY_VENV)/.ready
	$(PROXY_VENV)/bin/python -m pytest tests/integrations/test_litellm_proxy.py

$(PROXY_VENV)/.ready: constraints-litellm-proxy.txt $(READY)
	$(BIN)/python -m venv --clear $(PROXY_VENV)
	PIP_CONSTRAINT= $(PROXY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
		--requirement constraints-litellm-proxy.txt
	@for below in $(abspath $(VENV))/lib/python*/site-packages; do \
		echo "import site; site.addsitedir('$$below')" > $$(echo $(PROXY_VENV)/lib/python*/site-packages)/below.pth; done
	@touch $@

sdist: $(READY)
	@rm -rf build/sdist
	@$(BIN)/python setup.py --quiet sdist --formats gztar --dist-dir build/sdist

test-debug: sdist
	$(call instrumented,debug,SELFREG_DEBUG)
	PYTHONPATH=build/debug/src $(BIN)/python -m pytest -p no:cacheprovider -m "not long" -k "not python" $(KERNEL_TESTS)

# Errors stop the run. Leaks are reported at the end, Python's own among them (it frees little at exit), with two frames
# each: a leak is ours where the frame that allocated is in our kernels.
SANITIZER_RUNTIME = $(shell for name in asan ubsan stdc++; do gcc -print-file-name=lib$$name.so; done)
test-sanitize: sdist
	$(call instrumented,sanitize,SELFREG_SANITIZE)
	PYTHONPATH=build/sanitize/src PYTHONMALLOC=malloc LD_PRELOAD="$(SANITIZER_RUNTIME)" \
		ASAN_OPTIONS=detect_leaks=1:malloc_context_size=2:exitcode=0:abort_on_error=1:log_path=build/sanitize/log \
		UBSAN_OPTIONS=abort_on_error=1 \
		$(BIN)/python -m pytest -p no:cacheprovider -p no:faulthandler --capture=sys -m "not long" -k "not python" $(KERNEL_TESTS) \
		|| { grep -hs -A 15 "ERROR: AddressSanitizer" build/sanitize/log.*; exit 1; }
	@! grep -hs -B 2 '#1 .*selfreg/_core/' build/sanitize/log.*

clean:
	rm -rf $(VENV) build src/selfreg.egg-info src/selfreg/_core/*.c src/selfreg/_core/*.so
