# make demo   the main job on the bundled digits data: sweep, training, stop and resume, curves, table
# make test   every test, style and types
# make bench  the speed claims, measured side by side; make soak: the long versions of some tests
# make test-cuda-build   Caffe for CUDA built and tried without a card: a quarter of an hour and more
# Each sets up what it needs: virtual environment, system packages (as root), Caffe (cached).
PYTHON ?= python3
VENV ?= .venv
ROOMS = common engine datasets generator templates launcher analysis
export CAFFEBENCH_VENV = $(abspath $(VENV))

.PHONY: setup demo test lint types tests bench soak test-cuda-build
test: lint types tests

setup: $(VENV)/.ready
$(VENV)/.ready: setup.py pyproject.toml scripts/setup $(wildcard analysis/*.pyx)
	scripts/setup $(PYTHON) $(VENV)
	@touch $@

demo: setup
	scripts/demo

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# mypy does not follow the import hook of an editable install: give it the namespace as a tree of links.
types: setup
	@mkdir -p .cache/typing/caffebench
	@for room in $(ROOMS); do ln -sfn ../../../$$room .cache/typing/caffebench/$$room; done
	MYPYPATH=.cache/typing $(VENV)/bin/mypy -p caffebench

tests: setup
	$(VENV)/bin/pytest

soak: setup
	$(VENV)/bin/pytest -m soak

bench: setup
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(VENV)/bin/python $$file || exit 1; done

test-cuda-build: setup
	$(VENV)/bin/pytest tests/engine/cuda_build.py
