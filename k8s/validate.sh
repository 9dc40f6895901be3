#!/usr/bin/env bash
# Builds every overlay and combination of components and checks them: schemas, Pod Security, references, images, network.
set -euo pipefail
cd "$(dirname "$0")/.."
python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python
"$python" -c 'import kubernetes_validate' 2>/dev/null || { echo "validate: make validate installs what this needs" >&2; exit 1; }
PYTHONPATH=k8s PYTHONDONTWRITEBYTECODE=1 exec "$python" -m checks
