## FedCL. Every target sets up .venv by itself when it is needed and re-uses it afterwards.
##
##   make install   sets up .venv with the versions of constraints.txt
##   make demo      runs the demonstration comparison and writes its report
##   make test      runs the test suite
##   make lint      checks style, formatting and types
##   make bench     times what needs no released code (FashionMNIST is looked for in $FEDCL_DATA)
##   make help      prints this
##
## PYTHON=python3.12 picks the interpreter that .venv is made with (3.11 to 3.13).

PYTHON ?= python3
STAMP := .venv/.installed

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench

help:
	@sed -n 's/^##\( \|$$\)//p' Makefile

install: $(STAMP)

demo: $(STAMP)
	.venv/bin/fedcl compare demo

test: $(STAMP)
	.venv/bin/python -m pytest -q -n auto --dist worksteal

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: $(STAMP)
	.venv/bin/python -m benchmarks.evaluation
	.venv/bin/python -m benchmarks.unrolling
	.venv/bin/python -m benchmarks.together
	.venv/bin/python -m benchmarks.grid
	.venv/bin/python -m benchmarks.replay_step

# The stamp goes first and comes back last, so a failed install leaves none. torch is installed by
# itself, from its pins, so that pip resolves it before anything that merely asks for "torch".
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { echo "FedCL needs Python 3.11 to 3.13, got '$(PYTHON)' ($$($(PYTHON) --version 2>&1)); try make install PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -c constraints.txt $$(grep -E '^(torch|torchvision)==' constraints.txt)
	.venv/bin/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@
