# The two commands of the README, each with its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint bench soak lock lowest readme clean
run: .venv/run
	@if [ -n "$$DIGITALOCEAN_ACCESS_TOKEN$$DIGITALOCEAN_TOKEN$$DIGITALOCEAN_TOKEN_FILE" ]; then \
		exec $(BIN)/python -m exporter serve; \
	else \
		exec $(BIN)/python -m exporter serve --demo; \
	fi

test: .venv/test lint
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/run: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ .venv/run

# The numbers of the README, measured: requests, speed, memory (some minutes).
bench: .venv/test
	$(BIN)/python -m tests.benchmarks

# The worst days at length: faults, weeks of random events, load (see tests/reliability).
soak: .venv/test
	$(BIN)/python -m tests.reliability.soak

# What the image installs, with hashes; made anew when pyproject.toml's dependencies change.
lock: .venv/test
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --output-file deploy/requirements.lock pyproject.toml
	echo 'setuptools>=77' | UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes --output-file deploy/requirements-build.lock -

# The tests of the code once more, with the lowest versions that pyproject.toml allows.
lowest: .venv/test
	$(PYTHON) -m venv .venv/lowest
	$(BIN)/uv pip compile --quiet --no-header --resolution lowest-direct --output-file .venv/lowest.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python .venv/lowest/bin/python --editable '.[test]' --constraint .venv/lowest.txt
	.venv/lowest/bin/python -m pytest -n auto --dist worksteal tests/digitalocean tests/metrics \
		tests/polling/test_poller.py tests/polling/test_state_file.py tests/reports tests/cli tests/config tests/test_*.py \
		tests/web/test_app.py tests/web/test_auth.py tests/web/test_config.py tests/web/test_settings.py

# The parts of the README that are made: the metric reference, the benchmarks' table, the reliability figures.
readme: .venv/test
	$(BIN)/python -m tests.readme

clean:
	rm -rf .venv build *.egg-info
