# Each target does its own set-up into .venv; nothing outside this folder changes.
# PYTHON: the interpreter that .venv is made from (3.10 or newer).
# PIP_ARGS: more arguments for pip, such as an --extra-index-url with CPU-only builds of torch.
PYTHON   ?= python3
PIP_ARGS ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
JAR   := approxifer_torchserve/serving/approxifer-plugin.jar
JAVA  := $(shell find plugin/src/main -type f 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test chaos chaos-byzantine lint plugin clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 24

demo: $(STAMP) $(JAR)  ## train, archive, serve beside plain TorchServe, break workers, report (5 minutes)
	$(BIN)/approxifer demo $(DEMO_ARGS)

test: $(STAMP) $(JAR)  ## every test; those that start a real TorchServe come last
	$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: $(STAMP) $(JAR)  ## workers killed, frozen, slowed and garbled under load, every answer checked (20 minutes)
	$(BIN)/approxifer bench chaos $(CHAOS_ARGS)

chaos-byzantine: $(STAMP) $(JAR)  ## workers that lie in every way, under each way to serve: what gets through (25 minutes)
	$(BIN)/approxifer bench byzantine $(BYZANTINE_ARGS)

lint: $(STAMP)  ## style, types, import directions, committed files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/check_files.py
	.ci/java-format

plugin: $(JAR)  ## compile the Java plugin into the package

clean:  ## remove what was built, and .venv
	rm -rf $(VENV) build dist *.egg-info $(JAR) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "setuptools>=77" torchserve $(PIP_ARGS)
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt $(PIP_ARGS) --editable ".[serve,lightning,bench,test]"
	touch $@

$(JAR): $(STAMP) $(JAVA) plugin/build_backend.py
	$(BIN)/python plugin/build_backend.py
	@touch $@
