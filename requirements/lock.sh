#!/usr/bin/env bash
# Writes the lock files from pyproject.toml: one for everything, and one per image that agrees with it.
set -euo pipefail
cd "$(dirname "$0")/.."
# For the oldest Python that we support and all later ones.
lock() { .venv/bin/uv pip compile --quiet --python-version 3.11 --custom-compile-command "make lock" pyproject.toml "$@"; }
lock --extra app --extra trainer --extra mlflow --group dev --output-file requirements/dev.txt
for image in app trainer mlflow; do
  lock --extra "$image" --constraints requirements/dev.txt --output-file "requirements/$image.txt"
done
