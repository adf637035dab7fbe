# make demo   a real scan, in a network of its own on this machine
# make test   all tests; those that need namespaces skip, with the reason, where the system forbids them
# make check  what a change must pass: format, lint, types, tests
# make test-lowest  all tests again, with the oldest versions of the dependencies that pyproject.toml allows
# make dist   wheel and source archive in dist/, checked
# Everything runs from .venv, which is made on first use (.ci/setup). PYTHON=… names another interpreter.

PYTHON ?=
# Tests run in parallel. Half of the time they wait for packets, so there are two workers to each core.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
PY := .venv/bin/python
RUN := $(PY)
READY := .venv/.ready
.DEFAULT_GOAL := check
.PHONY: demo test test-lowest check lint fmt dist bench truth fuzz fleet-chaos fleet-demo golden clean

# make itself turns every failure into exit code 2; for the code itself, .venv/bin/halfopen demo.
demo: $(READY)
	@$(PY) -m scanner demo $(ARGS)

# Where the user is not root, in a user namespace, so that the live tests can make their networks.
test: $(READY)
	@temp=$$(mktemp -d); PYTEST_DEBUG_TEMPROOT=$$temp $(RUN) -m scanner.lab -m pytest -q -n $(WORKERS) --dist worksteal $(ARGS); code=$$?; rm -rf $$temp; exit $$code

# The tests with the lowest version of each dependency that pyproject.toml allows. numpy's needs Python 3.10 or 3.11.
LOWEST := .venv-lowest/bin/python
test-lowest: $(READY)
	rm -rf .venv-lowest
	$(PY) -m venv --without-pip .venv-lowest
	@lowest=$$($(PY) -c "from importlib.metadata import requires as r; \
	  print(*(n.split(';')[0].replace('>=', '==') for n in r('halfopen') if 'extra' not in n or 'parquet' in n))"); echo "lowest: $$lowest"; \
	$(PY) -m pip --python $(LOWEST) install -q --disable-pip-version-check -e '.[test]' $$lowest
	$(MAKE) --no-print-directory test RUN=$(LOWEST)

check: lint test

lint: $(READY)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --strict scanner

fmt: $(READY)
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# The two tools are only for this, so they are not among the development packages.
dist: $(READY)
	$(PY) -m pip install -q --disable-pip-version-check build twine
	rm -rf dist
	$(PY) -m build -q .
	$(PY) -m twine check --strict dist/*

bench: $(READY)
	$(PY) -m tests.bench $(ARGS)

# Scanners against bad paths and unlike hosts whose truth is known, and the calibration of what halfopen prints: about
# ten minutes. ARGS='--ours --runs 20' runs halfopen alone and checks what it promises, ARGS='--only WORD' some scenes.
truth: $(READY)
	$(PY) -m tests.bench.truth $(ARGS)

# Mutations of everything that reads what others wrote, for an hour. ARGS='--seconds 60 --only frames' for less.
fuzz: $(READY)
	$(PY) -m tests.fuzz $(ARGS)

# A fleet in the lab: 25 deaths each of a worker, the server, the collector and a link; ARGS='--runs 3 --only server' for less.
fleet-chaos: $(READY)
	$(PY) -m scanner.lab -m tests.lab.fleet_chaos $(ARGS)

# A fleet in the lab, on one screen.
fleet-demo: $(READY)
	@$(PY) -m scanner.lab -m tests.lab.fleet_demo $(ARGS)

# Writes anew the expected verdicts next to the captures and the generated parts of the documents.
# Read the difference before you commit it.
golden: $(READY)
	$(PY) -m tests.golden $(ARGS)
	$(PY) -m tests.generated

clean:
	rm -rf .venv .venv-lowest .venv-setup.log build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml .ci/setup
	@PYTHON='$(PYTHON)' .ci/setup
	@touch $@
