# Publishing, in the steps that the workflows call; `make help` lists only what people type. Included by the Makefile.

V ?=
REF ?=
TARGET ?= app
PLATFORM ?= linux/amd64
# A tag's name is anybody's text: V and REF reach recipes as the shell's variables, and workflows set them in the
# environment, where make does not expand them either.
export V REF
export COPY_TO DIST SMOKE_SECONDS CACHE_READ_ONLY NO_CACHE REVISION QUERY BAR RUN

RELEASE := .github/release

.PHONY: version-set version-check publish-build publish-smoke publish-join publish-copy publish-sign publish-verify publish-tag workflows \
	registry room model train-model propose-model release dump nightly-issue

version-set: ## write a version into every place that names it (V=1.2.3)
	@$(PYTHON) $(RELEASE)/version.py set "$$V"

version-check: # refuse a tree that names several versions (V=1.2.3: or another than that; REF: or what is not published)
	@$(PYTHON) $(RELEASE)/version.py check $${V:+"$$V"} $${REF:+--ref "$$REF"}

publish-build: # build TARGET for PLATFORM and push it by digest
	@$(RELEASE)/publish.sh build $(TARGET) $(PLATFORM)

publish-smoke: # run what publish-build pushed
	@$(RELEASE)/publish.sh smoke $(TARGET) $(PLATFORM)

publish-join: # make one image of both platforms, if both have run
	@$(RELEASE)/publish.sh join $(TARGET)

publish-copy: # put the joined image into COPY_TO too
	@$(RELEASE)/publish.sh copy $(TARGET)

publish-sign: # sign the joined image
	@$(RELEASE)/publish.sh sign $(TARGET)

publish-verify: # check signature, provenance and contents as a user would
	@$(RELEASE)/publish.sh verify $(TARGET)

publish-tag: # give the joined images the tags of REF (refs/tags/v1.2.3, refs/heads/main)
	@$(RELEASE)/publish.sh tag "$$REF"

workflows: .venv/installed ## check the workflows with actionlint and zizmor
	$(BIN)/zizmor --offline --no-progress --persona=pedantic --min-severity=informational .github
	@.github/actionlint.sh

registry: # start a registry on this machine (REGISTRY=localhost:5001)
	@$(RELEASE)/registry.sh $(lastword $(subst :, ,$(or $(REGISTRY),localhost:5001)))

room: # delete what a GitHub runner has and a big image does not need
	@$(RELEASE)/room.sh

model: # fetch the published model, if there is one, for the images
	@$(RELEASE)/model.sh

train-model: .venv/installed # train the published model on real cards (QUERY=…, BAR=…)
	@$(RELEASE)/train-model.sh

propose-model: # open a pull request for what train-model made
	@$(RELEASE)/propose-model.sh

release: # make the GitHub release V of what was tagged
	@$(RELEASE)/release.sh "$$V"

dump: # leave in dump/ what helps to understand a failure
	@$(RELEASE)/dump.sh

nightly-issue: # open an issue about a failed night (RUN=address)
	@$(RELEASE)/nightly-issue.sh
