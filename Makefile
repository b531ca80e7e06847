# make setup: everything that tests and demo need.   make demo: the main job on a real stack.   make test: every test.
# make faults: a fault at each step of each job, an hour or two (FAULTS="--help": options).
# make bench: measure backups, restores and what the live system feels, docs/benchmarks.md (BENCH="--help": options).
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.ansible
unexport AWS_CA_BUNDLE

.PHONY: help setup demo test bench bench-fleet docs lint unit integration molecule coverage faults clean
.NOTPARALLEL:
help:
	@sed -n 's/^# //p' Makefile
	@echo 'make lint, unit, integration, molecule: the parts of make test, without setup.   make coverage: what unit and integration reach.   make docs: write docs/reference.   make clean: remove the demo stack and caches.'

setup:
	@scripts/setup/engine.sh
	@scripts/setup/browser.sh
	@scripts/setup/venv.sh
	@scripts/setup/images.sh

demo: setup
	@scripts/demo.sh

test: setup lint unit integration molecule

bench: setup
	python -m benchmarks $(BENCH)

docs:
	python scripts/reference.py

bench-fleet: setup
	python -m benchmarks.fleet $(BENCH)

lint:
	ruff check .
	ruff format --check .
	mypy
	yamllint --strict .
	ansible-lint --offline --profile production -q

unit:
	python -m pytest tests/unit

## What fails beside other tests, on a busy machine, is asked again alone; what fails twice is a fault.
integration:
	python -m pytest tests/integration -n 2 --dist loadfile || { test $$? = 1 && \
	  python -m pytest tests/integration --last-failed --last-failed-no-failures none --exitfirst; }

## Lines and branches of engine and modules, also where they run in processes of their own.
coverage: setup
	coverage erase
	coverage run -m pytest tests/unit
	coverage run -m pytest tests/integration -n 2 --dist loadfile
	coverage combine --quiet
	coverage report

faults: setup
	python -m tests.faults $(FAULTS)

molecule:
	molecule test --all

clean:
	-docker compose -p trading -f examples/trading/compose.yml down --volumes --remove-orphans
	rm -rf .venv .ansible .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
