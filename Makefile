# The two commands of the README, each with its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint clean
run: .venv/run
	@if [ -n "$$DIGITALOCEAN_ACCESS_TOKEN$$DIGITALOCEAN_TOKEN$$DIGITALOCEAN_TOKEN_FILE" ]; then \
		exec $(BIN)/python -m exporter serve; \
	else \
		exec $(BIN)/python -m exporter serve --demo; \
	fi

test: .venv/test lint
	$(BIN)/python -m pytest -n auto

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

clean:
	rm -rf .venv build *.egg-info
