#!/usr/bin/env bash
# Which slow jobs the changes since a commit need, as `name=true` lines; all of them if there is no such commit or a shared
# file changed. Usage: changed.sh COMMIT
set -euo pipefail
cd "$(dirname "$0")/../.."
if files=$(git diff --name-only "${1:?a commit}...HEAD" 2>/dev/null); then
  needs() { if grep -qE "$1" <<<"$files"; then echo true; else echo false; fi; }
else
  needs() { echo true; }
fi
shared='^(app|cards|contract|trainer|docker|requirements|models|release)/|^(pyproject\.toml|compose\.yaml|Makefile|\.dockerignore)$|^\.github/(workflows/ci\.yml|scripts/)'
echo "images=$(needs "$shared|^tests/(stack|chaos|browser)/|^tests/conftest\.py$")"
echo "cluster=$(needs "$shared|^(k8s|tests/cluster)/|^tests/conftest\.py$")"
