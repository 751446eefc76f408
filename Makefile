# make demo: the main job on the bundled data. make test: every check. Both set everything up themselves.
VENV ?= .venv
ROOMS = common engine datasets generator templates launcher analysis

.PHONY: lint types
lint:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# mypy does not follow the import hook of an editable install: give it the namespace as a tree of links.
types:
	@mkdir -p .cache/typing/caffebench
	@for room in $(ROOMS); do ln -sfn ../../../$$room .cache/typing/caffebench/$$room; done
	MYPYPATH=.cache/typing $(VENV)/bin/mypy -p caffebench
