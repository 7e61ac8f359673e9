# Everything a user, a developer and CI call. `make help` lists the targets.
#
# Stamps in .venv say what is done already; each depends on the file that decides it, so a second
# start takes seconds. CARAVAN_* variables reach the program as they are; flags go into ARGS:
#   make run ARGS="--port 8000"        CMAKE_ARGS=-DGGML_CUDA=on make run

VENV := .venv
CLIENTS := .venv-clients
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check
CODE := shared api workers cli
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run install fmt check test test-clients test-schema bench lock clean model dev test-tools

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: install  ## install what is missing, start everything, print the first answer
	@$(VENV)/bin/caravan serve $(ARGS)

install: $(VENV)/.caravan $(VENV)/.self-test model  ## everything `run` needs, without starting it

check: dev  ## format, lint, types, import arrows, file and function lengths
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy $(CODE)
	$(VENV)/bin/pytest -q -p no:cacheprovider tests/test_layers.py

test: dev install test-tools  ## every test, with a real Redis, a real model and the official SDKs
	$(VENV)/bin/pytest $(ARGS)

test-schema: dev  ## thousands of requests made from the OpenAPI document; minutes
	SCHEMA_EXAMPLES=10 $(VENV)/bin/pytest --timeout=600 tests/api/test_schema_cases.py $(ARGS)

test-clients: dev install test-tools $(CLIENTS)/.packages tests/clients/vercel/node_modules/.stamp  ## whole clients from the registries against a running server (needs node)
	$(VENV)/bin/pytest -m clients tests/clients $(ARGS)

bench: install dev test-tools  ## measure the whole path against the bare engine, in one run
	@$(PY) -m bench $(ARGS)

fmt: dev $(VENV)/.caravan  ## format the code, mend what the linter can, refresh docs/configuration.md
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	@$(PY) -m cli.variables

lock: $(VENV)/.created  ## pin every dependency again, with hashes
	@sh deploy/lock.sh $(PY)

$(CLIENTS)/.packages: requirements-clients.lock | $(VENV)/.created
	@sh deploy/make_venv.sh $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install -q --disable-pip-version-check \
		--require-hashes -r requirements-clients.lock
	@touch $@

tests/clients/vercel/node_modules/.stamp: tests/clients/vercel/package-lock.json
	@cd tests/clients/vercel && npm ci --no-audit --no-fund --silent
	@touch $@

clean:  ## remove the environment and every cache in this folder; models and data stay
	rm -rf $(VENV) $(CLIENTS) tests/clients/vercel/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

dev: $(VENV)/.dev-packages $(VENV)/.llama

test-tools: | dev
	@sh deploy/test_tools.sh
	@$(PY) -m deploy.embedding_model

model: $(VENV)/.created
	@$(PY) deploy/default_model.py

$(VENV)/.created:
	@sh deploy/make_venv.sh $(VENV)
	@touch $@

$(VENV)/.packages: requirements-run.lock | $(VENV)/.created
	@echo "Installing the pinned packages into $(VENV) (a minute or two, once)."
	@$(PIP) --require-hashes -r requirements-run.lock
	@touch $@

$(VENV)/.dev-packages: requirements.lock $(VENV)/.packages
	@echo "Installing the pinned packages for tests and checks into $(VENV)."
	@$(PIP) --require-hashes -r requirements.lock
	@touch $@

# With CMAKE_ARGS given, ask again: other flags mean another wheel.
$(VENV)/.llama: deploy/build_llama.py $(VENV)/.packages $(if $(CMAKE_ARGS),FORCE)
	@$(PY) deploy/build_llama.py install
	@touch $@

$(VENV)/.caravan: pyproject.toml $(VENV)/.packages
	@$(PIP) --no-deps --no-build-isolation -e . >$(VENV)/install.log 2>&1 \
		|| { cat $(VENV)/install.log; exit 1; }
	@touch $@

$(VENV)/.self-test: $(VENV)/.llama | model
	@$(PY) deploy/build_llama.py self-test
	@touch $@

FORCE:
