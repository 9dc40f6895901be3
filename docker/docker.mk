# The stack in containers: the targets of docker/stack.sh with their settings. Included by the Makefile.

# Images made by `make airgap` on this machine, if there are any: the engine is shared by all users of the machine.
AIRGAP_STATE ?= /var/lib/manasight
-include $(AIRGAP_STATE)/images.env
# Machines that were prepared when the folder was below docker/.
COMPOSE_FILE := $(subst docker/airgap/,tests/airgap/,$(value COMPOSE_FILE))

# Ports of `make up` and `make demo`. To the stack only those that were given: .env may have others.
ifneq ($(PORT),)
export APP_HOST_PORT := $(value PORT)
endif
ifneq ($(MLFLOW_PORT),)
export MLFLOW_HOST_PORT := $(value MLFLOW_PORT)
endif
PORT ?= 8501
MLFLOW_PORT ?= 5000

# PULL=1 pulls instead of building; DATA=folder, EXPERIMENT=name and ARGS=... say what is trained; GPU=1 trains on one;
# RESUME=run resumes an interrupted training; PROMOTE=reason makes its model the champion although its labels are other ones;
# TARGETS="app mlflow" limits images and push; FILE=archive is what backup writes and restore reads; YES=1 answers the questions.
# Where torch and ImageNet's weights come from: TORCH_INDEX, IMAGENET, WEIGHTS, WHEELS, UV_CONFIG (docker/bake.hcl).
SETTINGS := PYTHON_IMAGE UV_IMAGE POSTGRES_IMAGE MINIO_IMAGE COMPOSE_FILE SBOM TORCH_INDEX IMAGENET WEIGHTS WHEELS UV_CONFIG \
	CACHE MODEL REGISTRY NAMESPACE TAG PLATFORMS PULL DATA EXPERIMENT ARGS CARDS GPU RESUME PROMOTE FILE YES SERVICE
# Only what has a value: an empty COMPOSE_FILE is not the same to compose as none, and would hide the settings that
# `make airgap` leaves from the makes within `make test-stack`.
# As it was typed: a dollar sign in DATA is part of the path.
$(foreach name,$(SETTINGS),$(if $(value $(name)),$(eval override export $(name) := $$(value $(name)))))

.PHONY: up train logs ps down purge backup restore upgrade images push airgap test-stack chaos lint-docker

up: ## start the whole stack in containers and wait until it is healthy (PULL=1: published images)
	@docker/stack.sh up

train: ## train in a container, on drawn cards or DATA=folder (RESUME=run, PROMOTE=reason); the app shows the new champion
	@docker/stack.sh train

logs: ## follow the containers' logs (SERVICE=name: of one)
	@docker/stack.sh logs

ps: ## show the containers, their health and memory
	@docker/stack.sh ps

down: ## stop the stack; its data stays
	@docker/stack.sh down

purge: ## stop the stack and delete its data; asks first
	@docker/stack.sh purge

backup: ## write runs, registry and artifacts to one archive (FILE=path)
	@docker/stack.sh backup

restore: ## replace runs, registry and artifacts by a backup (FILE=path); asks first
	@docker/stack.sh restore

upgrade: ## back up, then migrate and restart with the newest images
	@docker/stack.sh upgrade

images: ## build app, trainer and mlflow for amd64 and arm64
	@docker/stack.sh images $(TARGETS)

push: ## build for both platforms and push to REGISTRY/NAMESPACE
	@PUSH=true docker/images.sh $(TARGETS)

airgap: # base and service images from Debian packages, for tests where no registry answers
	@tests/airgap/engine.sh && tests/airgap/bases.sh

test-stack: .venv/installed chromium ## run the tests of images and stack, on a stack of their own; on Debian this installs a Docker Engine if there is none
	@echo "test-stack 1/4: a Docker Engine"
	@tests/airgap/engine.sh
	@echo "test-stack 2/4: base and service images"
	@tests/airgap/bases.sh --if-needed
	@echo "test-stack 3/4: the tests; the first builds take minutes"
	$(BIN)/pytest tests/stack --timeout 900 --durations 5
	@echo "test-stack 4/4: faults under load, in short; \`make chaos\` is the long form, FAULTS=no leaves them out"
	$(if $(filter no,$(FAULTS)),,$(BIN)/pytest tests/chaos)

chaos: .venv/installed ## break a stack of its own in every way, for a quarter of an hour, and see that nothing is lost (ARGS="--seed N")
	$(BIN)/pytest tests/chaos --long $(ARGS)

lint-docker: .venv/installed ## check Dockerfiles, compose files and scripts
	@docker/lint.sh
