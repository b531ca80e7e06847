# make setup: everything that tests and demo need.   make demo: the main job on a real stack.   make test: every test.
# make bench: measure backups against the runbook's way and by hand, docs/benchmarks.md (BENCH="--help": options).
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.ansible
unexport AWS_CA_BUNDLE

.PHONY: help setup demo test bench bench-restore bench-offsite bench-fleet lint unit integration molecule clean
.NOTPARALLEL:
help:
	@sed -n 's/^# //p' Makefile
	@echo 'make lint, unit, integration, molecule: the parts of make test, without setup.   make clean: remove the demo stack and caches.'

setup:
	@scripts/setup/engine.sh
	@scripts/setup/venv.sh
	@scripts/setup/images.sh

demo: setup
	@scripts/demo.sh

test: setup lint unit integration molecule

bench: setup
	python -m benchmarks.backup $(BENCH)

bench-restore: setup
	python -m benchmarks.restore $(BENCH)

bench-offsite: setup
	python -m benchmarks.offsite $(BENCH)

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

# What fails beside other tests, on a busy machine, is asked again alone; what fails twice is a fault.
integration:
	python -m pytest tests/integration -n 2 --dist loadfile || { test $$? = 1 && \
	  python -m pytest tests/integration --last-failed --last-failed-no-failures none --exitfirst; }

molecule:
	molecule test --all

clean:
	-docker compose -p trading -f examples/trading/compose.yml down --volumes --remove-orphans
	rm -rf .venv .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis
