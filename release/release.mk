# Publishing, in the steps that the workflows call; `make help` lists only everyday commands. Included by the Makefile.

V ?=
REF ?=
TARGET ?= app
PLATFORM ?= linux/amd64
# Anybody can push a tag with any name: V and REF reach recipes as variables of the shell, and workflows set them in the
# environment, where make does not expand them either.
export V REF
export COPY_TO DIST SMOKE_SECONDS CACHE_READ_ONLY NO_CACHE REVISION RUN DOCKERHUB_USERNAME DOCKERHUB_TOKEN

PUBLISH := $(addprefix publish-,build smoke join copy sign verify)
BUMP = $(BIN)/uv tool run --quiet --from bump-my-version==1.6.2 bump-my-version

.PHONY: version-set versions version-check $(PUBLISH) publish-tag publish-describe workflows targets registry room release dump nightly-issue

version-set: .venv/installed ## write a version into every place that names it (V=1.2.3)
	@$(BUMP) bump --new-version "$$V" && echo "the tree is version $$V"

versions: .venv/installed # refuse a tree in which a place lacks the version
	@$(BUMP) bump --dry-run --new-version 999.0.0

version-check: # refuse a REF that is not published, or is the tag of another version
	@python3 release/tags.py check "$$REF"

publish-build publish-smoke: # build TARGET for PLATFORM and push it by digest; run what was pushed
	@release/publish.sh $(@:publish-%=%) $(TARGET) $(PLATFORM)

publish-join publish-copy publish-sign publish-verify: # make one image of both platforms, if both have run; copy, sign, check it
	@release/publish.sh $(@:publish-%=%) $(TARGET)

publish-tag: # give the joined images the tags of REF (refs/tags/v1.2.3, refs/heads/main)
	@release/publish.sh tag "$$REF"

publish-describe: # write the images' pages on Docker Hub
	@release/describe.sh

workflows: .venv/installed ## check the workflows with actionlint and zizmor
	$(BIN)/zizmor --offline --no-progress --persona=pedantic --min-severity=informational .github
	@.github/actionlint.sh

targets: # the names of a bake GROUP's images as JSON, for the matrices of workflows
	@docker buildx bake -f docker/bake.hcl --print $(or $(GROUP),published) | jq -c '"targets=\(.group["$(or $(GROUP),published)"].targets)"' -r

registry: # start a registry on this machine (REGISTRY=localhost:5001)
	@release/registry.sh $(lastword $(subst :, ,$(or $(REGISTRY),localhost:5001)))

release: # create the GitHub release V of what was tagged
	@release/release.sh "$$V"

room dump nightly-issue: # for workflows: free disk, keep logs of a failure, open an issue about a failed night
	@.github/scripts/$@.sh
