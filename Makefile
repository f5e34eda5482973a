# Every target sets up what it needs: Python 3.11+, make and pip are enough.
PYTHON ?= python3
# uv: the one on PATH, or one installed into the environment it makes
UV := $(shell command -v uv || echo .venv/bin/uv)
export UV_SYSTEM_CERTS := 1
export UV_PYTHON_DOWNLOADS := never
RUN := .venv/bin/

.DEFAULT_GOAL := help
.PHONY: help demo up test chaos drills check containers kubernetes format lock

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.ready: pyproject.toml uv.lock
	@[ -x .venv/bin/python ] || $(PYTHON) -m venv --without-pip .venv
	@command -v uv >/dev/null || [ -x .venv/bin/uv ] || $(PYTHON) -m pip --python .venv/bin/python install --quiet uv
	@$(UV) sync --frozen --inexact --all-extras --quiet
	@touch $@

demo: .venv/.ready ## send 1,000 sample messages through a sandbox gateway and print the statistics
	@$(RUN)mailing demo

up: .venv/.ready ## API, worker, embedded PostgreSQL and sandbox gateway until Ctrl-C
	@$(RUN)mailing up

test: .venv/.ready ## the whole test suite
	@$(RUN)pytest -n auto $(ARGS)

chaos: .venv/.ready ## the fault run: everything breaks while 100,000 messages are sent; half an hour
	@PYTHONPATH=tests $(RUN)python -m chaos.run $(ARGS)

drills: .venv/.ready ## one fault at a time: a hanging gateway, one that is down, rolling restarts, the rate, fairness; half an hour
	@PYTHONPATH=tests $(RUN)python -m chaos.drills $(ARGS)

check: .venv/.ready ## format, lint, types, import contracts
	@$(RUN)ruff format --check
	@$(RUN)ruff check
	@$(RUN)mypy
	@$(RUN)lint-imports

containers: ## build the image, run docker-compose.yml, send one mailing, remove it all (COMPOSE="docker compose")
	@.ci/containers

kubernetes: .venv/.ready ## run deploy/kubernetes by podman kube play, send one mailing, remove it (PODMAN="sudo podman")
	@$(RUN)python deploy/kubernetes/try.py

format: .venv/.ready ## format and mend what can be mended
	@$(RUN)ruff format
	@$(RUN)ruff check --fix

lock: ## renew uv.lock
	@$(UV) lock --upgrade
