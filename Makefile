# make run    the dashboard            make check  style, types, and all tests that need no server or browser
# make test   all that does not take long, in nine minutes on two cores
# make test-all  everything, in about half an hour; the CI runs it
# make lint   format, style, types
# make shots  a PNG of every page, into shots/
# make bench  the measured claims       make soak   faults at random: make soak SEED=7 MINUTES=4
# make coverage  which lines the tests run, which they do not, and why
# make audit  known vulnerabilities, and secrets in the repository
# make canary the quick tests on the newest nats-py and Streamlit, in an environment of its own
# make scale  several processes behind nginx, on a cluster of three: make scale APPS=3 PORT=8080

PYTHON ?= python3
BIN = .venv/bin
CANARY = .venv-canary
# What takes long also needs the processor more, so that fewer files run at a time with it
SOME = -n 6 --dist loadfile --no-loadscope-reorder
ALL = -n 4 --dist loadfile --no-loadscope-reorder

# Tests start hundreds of Python processes. Where this is set, each of them compiles the app again
export PYTHONDONTWRITEBYTECODE =

.PHONY: run check test test-all coverage lint audit shots bench soak scale canary browser bundle clean

run: .venv/run
	$(BIN)/streamlit run app.py

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not real" -n 2 --dist loadfile

test: .venv/installed browser
	$(BIN)/python -m tests $(SOME) -m "not slow"

test-all: .venv/installed browser
	$(BIN)/python -m tests $(ALL)

coverage: .venv/installed browser
	rm -rf .coverage
	$(BIN)/coverage run -m tests $(ALL); code=$$?; \
		$(BIN)/python -m tests.coverage_report && exit $$code

lint: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

audit: .venv/installed
	$(BIN)/python -m tests.audit

shots: .venv/installed browser
	$(BIN)/python -m tests.shots

bench: .venv/installed
	$(BIN)/python -m bench

soak: .venv/installed
	$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(LONG),--long) $(if $(WITHOUT),--without $(WITHOUT))

scale: .venv/installed
	$(BIN)/python -m deploy.scale $(if $(APPS),--apps $(APPS)) $(if $(PORT),--port $(PORT))

# Both requirement lists without nats-py and Streamlit, so that pip installs the newest, and newer versions of
# others if those need them
canary:
	rm -rf $(CANARY)
	$(PYTHON) -m venv $(CANARY)
	sed '/^nats-py==/d; /^streamlit==/d' requirements.txt > $(CANARY)/requirements.txt
	sed 's|^-r .*|-r requirements.txt|' tests/requirements.txt > $(CANARY)/tests.txt
	$(CANARY)/bin/python -m pip install --quiet --disable-pip-version-check -r $(CANARY)/tests.txt
	$(CANARY)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade nats-py streamlit
	$(CANARY)/bin/python -m pip freeze | grep -E '^(nats-py|streamlit)=='
	$(CANARY)/bin/python -m tests.browser
	$(CANARY)/bin/python -m pytest -m "not real"
	$(CANARY)/bin/python -m pytest tests/nats_client/test_patched_nats.py tests/nats_client/test_connection.py \
		tests/nats_client/test_nats_py_faults.py tests/nats_client/test_bulk_parser.py \
		tests/components/test_streamlit_internals.py tests/app/test_browser.py
	rm -rf $(CANARY)

browser: .venv/installed
	@$(BIN)/python -m tests.browser

bundle:
	cd bundle && npm ci --ignore-scripts --no-audit --no-fund && npm run build

clean:
	rm -rf .venv $(CANARY) .coverage shots

.venv/run: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lookback needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed: .venv/run tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@
