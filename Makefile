# Three commands that set up what they need in .venv and wrap the plain tools: report, test, lint.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin

.PHONY: report test lint schema lock clean

report: .venv/run
	$(BIN)/snakemake --cores $(CORES)

test: .venv/develop
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations 25

lint: .venv/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# The JSON schema of config.yaml, for editors that check it while you type.
schema: .venv/run
	$(BIN)/python -m lraee.config > workflow/schemas/config.schema.json

lock: .venv/develop
	$(BIN)/python envs/lock.py

clean:
	rm -rf .venv .snakemake results

.venv/run: envs/requirements.lock envs/requirements-peers.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r envs/requirements.lock setuptools
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip install --quiet -r envs/requirements-peers.lock || \
		echo "OpenVINO and the other peers were not installed: the runtime and its timing have torch alone."
	touch $@

.venv/develop: .venv/run envs/requirements-dev.lock envs/requirements-slurm.lock
	$(BIN)/python -m pip install --quiet -r envs/requirements-dev.lock -r envs/requirements-slurm.lock
	touch $@
