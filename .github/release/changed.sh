#!/usr/bin/env bash
# Which slow jobs the changes since a commit need, as `name=true` lines. With no such commit, or a change to what all stand
# on, all of them. Usage: changed.sh COMMIT
set -euo pipefail
cd "$(dirname "$0")/../.."
if files=$(git diff --name-only "${1:?a commit}...HEAD" 2>/dev/null); then
  needs() { if grep -qE "$1" <<<"$files"; then echo true; else echo false; fi; }
else
  needs() { echo true; }
fi
shared='^(app|trainer|docker|requirements|models)/|^(pyproject\.toml|compose\.yaml|Makefile|\.dockerignore)$|^\.github/(workflows/ci\.yml|release/)'
echo "images=$(needs "$shared|^tests/(stack|chaos|browser)/|^tests/conftest\.py$")"
echo "cluster=$(needs "$shared|^(k8s|tests/cluster)/|^tests/conftest\.py$")"
