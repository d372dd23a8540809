# make run: train, evaluate and film the quickstart.  make test: run the default tests.
# Both create .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= quickstart
CPP = $(shell find native tests -name '*.[ch]pp')

.PHONY: run test test-slow faults check format lint types stubs docs test-docs clean

run: $(VENV)/installed
	$(BIN)/gallop run $(CONFIG)

test: $(VENV)/installed-dev
	$(BIN)/pytest -n 3 --dist worksteal --durations 10

test-slow: $(VENV)/installed-dev
	$(BIN)/pytest -n 3 --dist worksteal --durations 25 -m slow

# Kills, injected failures and damage, for hours; writes the tables to docs/results/faults/.
faults: $(VENV)/installed-dev
	rm -f docs/results/faults/*.csv
	GALLOP_FAULTS_RESULTS=docs/results/faults $(BIN)/pytest -n 2 --dist worksteal -m faults

check: format lint types test

format: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

# The documentation site, in docs/_build/html. Each warning, such as a dead link, is an error.
docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees docs docs/_build/html

# The site's links and generated pages; the commands of the quickstart and the guides.
test-docs: $(VENV)/installed-dev
	$(BIN)/pytest -n 3 --dist worksteal --durations 10 -m docs tests/docs

# The type stubs of the kernels, after a change in native/python/. nanobind reads the built module.
stubs: $(VENV)/installed-dev
	$(BIN)/python -m nanobind.stubgen -q -m gallop._kernels -o src/gallop/_kernels.pyi
	$(BIN)/ruff format -q src/gallop/_kernels.pyi

# Each step leaves a marker file, so that make repeats it only after the requirements changed.
$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is required; try: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(PYTHON) install.py $(VENV) requirements.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(PYTHON) install.py $(VENV) requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .pytest_cache .ruff_cache
