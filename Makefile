# Two commands set everything up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RECIPE ?= arithmetic
# A process a core, each with one thread (tests/conftest.py): models this small gain nothing from a second.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test check fix up lock clean help

demo: $(STAMP)  ## run the whole pipeline on the embedded world and say where the report is
	@$(BIN)/cohobate run $(RECIPE)

test: $(STAMP)  ## run the tests
	@$(PYTEST)

check: $(STAMP)  ## lint, types and tests, changing nothing: what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

fix: $(STAMP)  ## format, and mend what can be mended without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

up: $(STAMP)  ## start a Prefect server with a worker and the deployments, until Ctrl+C
	@$(BIN)/python -m tasks.up

$(STAMP): pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

lock:  ## write constraints.txt anew from the newest versions that fit
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	{ echo "# The versions that the tests pass with. Written by \`make lock\`."; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt
	rm -rf $(VENV)-lock

clean:  ## remove the environment and every artifact that was made
	rm -rf $(VENV)
	find data -mindepth 1 -maxdepth 1 ! -name world ! -name recipes -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 8
