# Each target installs its dependencies into .venv: in a fresh clone, run `make demo` or `make test` directly.
PYTHON ?= python3
# The extra with ONNX Runtime: cpu, or gpu on a machine with an NVIDIA GPU.
RUNTIME ?= cpu
BIN := .venv/bin

.PHONY: demo test lint format docs package bench gpu

demo: .venv/installed
	rm -rf demo
	$(BIN)/python demo.py demo

# One process per core, each with one thread.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Build the site: pages, options and API reference. A broken link or an unknown name is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Build wheel and sdist, and use the wheel in an empty environment.
package: .venv/installed
	rm -f dist/*.whl dist/*.tar.gz
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/python tests/check_package.py dist

# Measures the peers as well, one of which, OpenVINO, only this target installs. Keeps the results in benchmarks/results
# and updates the tables of README.md and docs/benchmarks.md.
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME),bench]'
	$(BIN)/python -m pytest benchmarks --benchmark-json=.benchmarks/raw.json
	$(BIN)/python benchmarks/report.py .benchmarks/raw.json

# Everything that only an NVIDIA GPU can show, in 10 minutes: make gpu RUNTIME=gpu. Continues where it was interrupted.
gpu: .venv/installed
	$(BIN)/python -m benchmarks.gpu

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: run make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME),dev]'
	@touch $@
