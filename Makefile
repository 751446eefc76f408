# make demo   the main job on the bundled digits data: sweep, training, stop and resume, curves, table
# make test   every test, style, types and the docs; make check: what is quick of it
# make studies  published claims tried, with several seeds each, and docs/studies/ written from the logs
# make bench  the speed claims, measured side by side; make soak: the long versions of some
#             tests, and runs of every kind killed 126 times (docs/reliability.md)
# make test-caffe  Caffe's own tests on our build, plain and over the fast layers: a quarter of an hour the first time
# make test-cuda-build   Caffe for CUDA built and tried without a card: a quarter of an hour and more
# Each sets up what it needs: virtual environment, system packages (as root), Caffe (cached).
PYTHON ?= python3
VENV ?= .venv
export CAFFEBENCH_VENV = $(abspath $(VENV))
# Hundreds of processes import the package in the tests: none needs to compile it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-tests lock demo check test lint rooms tree docs types types-numpy tests wheel caffe-wheel bench studies matrix soak test-caffe test-cuda-build test-debian test-wheel
test: lint types docs tests

setup: tree $(VENV)/.caffe
$(VENV)/.caffe: $(VENV)/.packages $(wildcard engine/*.py engine/fast/*)
	$(VENV)/bin/install-caffe
	@touch $@
$(VENV)/.packages: setup.py pyproject.toml requirements.lock scripts/setup $(shell find analysis -name '*.pyx')
	scripts/setup $(PYTHON) $(VENV)
	@touch $@

# The newest versions of everything that the tests use, into requirements.lock.
lock:
	scripts/lock $(PYTHON)

demo: setup
	scripts/demo

lint: $(VENV)/.packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@$(MAKE) --silent rooms

# The direction of imports, and their drawing in the docs.
rooms: $(VENV)/.packages tree
	$(VENV)/bin/lint-imports --no-logo --cache-dir .cache/imports
	$(VENV)/bin/python scripts/draw-rooms --check

tree:
	@scripts/link-rooms

types: $(VENV)/.packages tree
	MYPYPATH=.cache/tree $(VENV)/bin/mypy -p caffebench

# The site, into .cache/site; a broken link, anchor or missing page ends it. To read it: .venv/bin/mkdocs serve
docs: $(VENV)/.packages tree
	scripts/setup-docs $(VENV)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build

# The types with the oldest NumPy that the package takes and with the newest there is.
types-numpy: types
	scripts/types-numpy $(VENV)

# A file of tests stays on one core: what it starts (Slurm, a browser) is started once.
tests: setup setup-tests
	$(VENV)/bin/pytest -n auto --maxprocesses 8 --dist loadfile

# What tests need besides, before they start: none of them installs or downloads anything.
setup-tests: $(VENV)/.packages
	scripts/setup-tests $(VENV)

# Style, and the quick tests on all cores: no Caffe, no Slurm, no browser, no wheel, nothing that takes many seconds.
check: lint
	$(VENV)/bin/pytest -q -n auto --dist worksteal -m "not soak and not caffe and not slurm and not browser and not wheel and not slow"

# One wheel for every Python, into dist/; who installs it needs no compiler.
wheel: $(VENV)/.packages
	scripts/wheel $(VENV)

soak: setup setup-tests
	$(VENV)/bin/pytest -m soak
	$(VENV)/bin/python scripts/soak --write docs/reliability.md

# Every bundled sweep on every public architecture, on real Caffe, into docs/base-matrix.md: an hour.
matrix: setup
	$(VENV)/bin/python tests/generator/base_matrix.py .cache/matrix

# The studies of docs/studies on real Caffe, but for runs whose logs are kept in logs/studies: some two hours of two
# cores without those; goes on where it was stopped. Studies of times want a machine that does nothing else.
# ONLY=bn_order for one, JOBS=2 for so many runs at a time.
studies: setup
	$(VENV)/bin/python scripts/studies $(if $(ONLY),--only $(ONLY)) $(if $(JOBS),--jobs $(JOBS))

bench: setup
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(VENV)/bin/python $$file || exit 1; done

# Caffe's own tests, whole, on our build, with plain Caffe and over the fast layers, these with sanitizers too.
test-caffe: setup
	$(VENV)/bin/python scripts/test-caffe
	$(VENV)/bin/python scripts/test-caffe --fast
	$(VENV)/bin/python scripts/test-caffe --sanitize

test-cuda-build: setup setup-tests
	$(VENV)/bin/pytest tests/engine/cuda_build.py

# In Debian 12 and 13 with nothing but python3, make and git, as root: an hour and more.
DEBIAN ?= bookworm trixie
test-debian:
	scripts/test-debian $(DEBIAN)

# Caffe for this Python as a wheel with its libraries inside, into dist/; who installs it needs neither root nor a compiler.
caffe-wheel: $(VENV)/.packages
	$(VENV)/bin/install-caffe --wheel dist

# The wheel in every Python there is, and in Debian 12 and 13 without a compiler; then with Caffe's in bare roots, by an
# ordinary user and by the steps of containers/. As root: half an hour.
test-wheel: wheel caffe-wheel
	scripts/test-wheel $(DEBIAN)
	scripts/test-caffe-wheel
