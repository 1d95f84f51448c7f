# make venv | demo | test | lint | clean. PYTHON=... names a Python 3.12 to make the environment with.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
FOLDERS := artifacts compiler runtime tools
DEMO_PROMPT ?= a red circle moves left across a dark background

.PHONY: venv demo test lint clean

venv: $(VENV)/installed-dev

$(BIN)/python:
	@python=$$(PYTHON='$(PYTHON)' .ci/find-python) && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV)

$(VENV)/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing ($*); torch and its libraries are several GB the first time"
	@$(PIP) -e '.[$(if $(filter dev,$*),compile$(comma)torch$(comma)serve$(comma)ui$(comma)dev,compile)]'
	@touch $@

comma := ,

# What a user does, on the trained model that comes with the package: its prompts are about shapes that move.
demo: $(VENV)/installed-compile
	@rm -rf demo
	@mkdir demo
	$(BIN)/mochi-checkpoint demo/checkpoint --trained
	$(BIN)/mochi-compile --checkpoint demo/checkpoint --mesh 2x4 --target torch --geometry 64x96x19 -o demo/mochi.bundle
	$(BIN)/mochi-run demo/mochi.bundle --prompt '$(DEMO_PROMPT)' --seed 7 --steps 24 --guidance-scale 3 --fps 10 -o demo/out.mp4
	$(BIN)/python -m mochi_aot.tools.commands.contact_sheet demo/out.mp4 demo/out.png

lint: $(VENV)/installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy -p mochi_aot

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

clean:
	rm -rf $(VENV) demo build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(FOLDERS) tests -name __pycache__ -type d -prune -exec rm -rf {} +
