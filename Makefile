# One command each; each sets up what it needs in .venv by itself. Needed beforehand: Python 3.11 with venv, make, git.
#
#   make demo               see it work
#   make test               the tests, short forms (ARGS="…" goes to pytest; JOBS=2 runs files side by side)
#   make check              format, lint, types, public types, layers, house rules
#   make crash SECONDS=200  the long forms of the crash tests, for about so long (ARGS and JOBS: as above)
#   make bench              the measurements (ARGS=--save puts their tables and plots into the pages)
#   make docs               the documentation, into site/
#   make cluster            three NATS servers on this machine, until Ctrl-C
#   make dist               wheel and sdist, into dist/, built and tried (ARGS=--all: with all extras and all tests)
#   make clean              forget everything that the above made

VENV ?= .venv
PYTHON ?= $(shell sh tools/find-python.sh)
SECONDS = 1800
ARGS =
JOBS = 0

PY = $(VENV)/bin/python
# Plain by default: many tests fork, kill and send signals, and one process at a time keeps a failure readable.
PARALLEL = $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadfile)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Silences a notice that the theme prints at every build.
export NO_MKDOCS_2_WARNING = 1

.PHONY: demo test check bench crash docs dist clean cluster

demo: $(VENV)/.with-cli
	$(VENV)/bin/perdure demo

test: $(VENV)/.with-dev
	$(PY) -m pytest $(PARALLEL) $(ARGS)

check: $(VENV)/.with-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --strict src
	$(PY) tools/public_types.py
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q tests/tidy

# With what the tests need: the engines are measured on the tests' own servers.
bench: $(VENV)/.with-dev,bench
	$(PY) -m benchmarks $(ARGS)

crash: $(VENV)/.with-dev,crash
	sh tools/crash.sh $(PY) $(SECONDS) $(PARALLEL) $(ARGS)

docs: $(VENV)/.with-docs
	$(PY) -m mkdocs build --strict --site-dir site

dist: $(VENV)/.with-dev
	bash tools/release.sh $(PY) $(ARGS)

cluster: $(VENV)/.with-dev
	$(PY) tools/cluster.py .cluster

clean:
	rm -rf .venv .venv-* site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests tools docs -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of extras.
$(VENV)/.with-%: pyproject.toml
	@test -n "$(PYTHON)"
	@"$(PYTHON)" tools/environment.py $(VENV) $*
