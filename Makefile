# The commands of those who work on the house; CONTRIBUTING.md explains them.
SINCE ?= HEAD

.PHONY: check format lint test slow faults docs notebooks

check: lint ## about two minutes: lint, types, and the tests of what changed since $(SINCE)
	python -m pytest -q -p no:cacheprovider $$(python -m tests.changed $(SINCE))

lint:
	ruff check .
	ruff format --check .
	mypy

format:
	ruff check --fix .
	ruff format .

test: ## all quick tests
	python -m pytest -p no:cacheprovider

slow: ## those that take minutes each
	python -m pytest -p no:cacheprovider -m slow

docs: ## the manual, in site/: open site/index.html
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict

notebooks: ## runs those of the manual, as the tests do
	python -m pytest -p no:cacheprovider -n 0 --nbmake docs/notebooks

faults: ## every named fault is put in, and must be found
	python -m tests.faults
