# Two commands on a fresh machine with Python 3.11+ and make:
#   make demo   trains on real prices, leaves runs/demo/report.html and prints tomorrow's list
#   make test   runs every test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/mimstocr run configs/demo.yaml --resume
	$(BIN)/mimstocr recommend runs/demo --top 5

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs/demo

# torch first and by itself: asked for by exact version it comes as the small CPU build where there is one
$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit("mimstocr needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) -c constraints.txt -e '.[samples]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -c constraints.txt -e '.[samples,portfolio,yahoo,crypto,rl,dev]'
	touch $@
