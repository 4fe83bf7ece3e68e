# Everything runs in .venv, which is made on first use from constraints.txt.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
# What was compiled is kept, whatever the shell says: setup compiles the tests, once for all processes.
PYTEST_ALONE := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet
# Two processes, and one thread in each: what two cores can do. An idle one takes over what waits at the other.
PYTEST := $(PYTEST_ALONE) --numprocesses 2 --dist worksteal
SUITES := --doctest-modules nondecoupling tests proofs

.PHONY: help setup validate test test-full lowest mutants lint docs figures package rocq ledger clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done

setup: $(READY) ## the virtual environment (every target brings it itself)

$(READY): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up .venv with $(PYTHON): one to three minutes, only once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@if command -v coqc >/dev/null; then echo "compiling the Rocq proofs: a minute, only once"; \
		$(BIN)/python -m proofs.rocq.audit --keep >/dev/null || echo "make test will say it again"; fi
	@$(PYTEST_ALONE) --collect-only $(SUITES) >/dev/null || echo "make test will say it again"
	@touch $@

validate: $(READY) ## the theorems on a language model: a tiny Qwen3, trained in the run
	$(BIN)/python experiments/qwen_validate.py

test: $(READY) ## tests of the code, doctests and the proofs; the ledger comes last
	$(PYTEST) $(SUITES)

test-full: $(READY) ## all of them, the slow ones too; packages are left to make package
	$(PYTEST) --durations 25 -m "not packaging" $(SUITES)

# What meets the versions of other projects: arrays in and out, plots, recipes.
CORE := tests/test_bounds.py tests/test_bad_arrays.py tests/test_named_results.py tests/test_policies_from.py \
	tests/test_padding_and_weights.py tests/test_plot.py tests/recipes/test_recipe.py

lowest: ## core tests with the lowest versions that pyproject.toml allows, in build/lowest
	@$(PYTHON) -m venv build/lowest
	@build/lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt '.[plot,proofs]'
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest --quiet --numprocesses 2 --doctest-modules nondecoupling/bounds $(CORE)

mutants: $(READY) ## make deliberate faults, one by one, and see the tests fail: some ten minutes
	$(BIN)/python -m tests.mutants.run

lint: $(READY) ## ruff over everything, mypy over the package and the experiments
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY) ## the documentation site, in build/site: open index.html
	$(BIN)/python docs/site/prepare.py
	PYTHONPATH=docs/site NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

figures: $(READY) ## draw the figures of the documentation again
	$(BIN)/python docs/figures/figures.py

package: $(READY) ## wheel and sdist in dist/, each tried in a clean environment
	$(BIN)/python -m pytest --quiet tests/test_packaging.py -m packaging

ledger: $(READY) ## run the proofs and write the ledger that is committed
	$(BIN)/python -m pytest --quiet proofs --update-ledger

rocq: $(READY) ## build and audit the machine-checked proofs (needs coqc)
	$(BIN)/python -m proofs.rocq.audit

clean: ## remove .venv and what tools left behind
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
