# make demo: the whole path on a synthetic log.  make test: every check.  make soak: kill loops and
# fuzzing, long.  make bench: how fast it is.
# make evidence KUAIRAND=dir MOVIELENS=dir: the studies of docs/lab/evidence.md, some hours.
# Each sets up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Processes of make test, and runs of make evidence at a time.
JOBS ?= 2
STAMP := $(VENV)/.installed
# The tests of Spark run where there is Java, and say why they do not elsewhere.
EXTRAS := test$(if $(shell command -v java),$(shell echo ,spark))

.PHONY: setup demo test soak bench evidence lint format clean

setup: $(STAMP)

$(STAMP): setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

demo: $(STAMP)
	$(BIN)/diffumin demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

evidence: $(STAMP)
	$(BIN)/python tools/evidence.py --output runs/evidence --jobs $(JOBS) \
	  $(if $(KUAIRAND),--kuairand '$(KUAIRAND)') $(if $(MOVIELENS),--movielens '$(MOVIELENS)')

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs *.egg-info build .pytest_cache .ruff_cache
