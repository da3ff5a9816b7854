# `make test` is all there is to type on a fresh machine with Python 3.11+.
# torch comes as pinned in requirements/constraints.txt, in the build that pip's own settings
# (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL) lead to: on Linux, PyPI's own is a CUDA build of some GB.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CONSTRAINTS := requirements/constraints.txt
STAMP := $(VENV)/.complete

.DEFAULT_GOAL := help
.PHONY: help env demo test quick lowest faults check bench clean

help:  ## print this list
	@sed -n -E 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST))

env: $(STAMP)  ## install everything into .venv (VENV=FOLDER and PYTHON=COMMAND choose others)

# The stamp is written last: an installation that was cut short is taken up again.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LayerLake needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; choose one with make PYTHON=COMMAND")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint $(CONSTRAINTS) --upgrade pip
	$(PIP) --constraint $(CONSTRAINTS) setuptools wheel
	$(PIP) --constraint $(CONSTRAINTS) --no-build-isolation --editable '.[all]' --group dev
	@touch $@

demo: env  ## install everything into .venv and run the demo, into the folder demo
	$(BIN)/layerlake demo

test: env  ## run the test suite
	$(BIN)/pytest -n auto

quick: env  ## run the tests that take little time (tests/conftest.py says which do not)
	$(BIN)/pytest -n auto --quick

lowest:  ## run the tests with the lowest versions allowed, in .venv-lowest
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=requirements/lowest.txt

faults: env  ## inject faults of every kind into every operation, and show what became of the data
	$(BIN)/python tests/faults/campaign.py

check: env  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/test_imports.py

bench: env  ## measure similarity, extraction and storage (about 12 GiB of memory and twenty minutes)
	$(BIN)/layerlake bench rsa
	$(BIN)/layerlake bench similarity
	$(BIN)/layerlake bench extract
	$(BIN)/layerlake bench store

clean:  ## remove .venv, builds and caches; lakes stay
	rm -rf $(VENV) build dist layerlake.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
