#!/usr/bin/env bash
# Makes .venv: what the lock file names, by hash, and PyTorch from the index that fits this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
say() { echo "install: $*" >&2; exit 1; }
. docker/progress.sh
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# step NAME MESSAGE COMMAND...: a command with progress lines; if it fails, its output and the message.
step() { progress "install: $1" "$log" "${@:3}" || { tail -n 20 "$log" >&2; say "$2"; }; }

needs="Manasight needs 3.11–3.14. Set PYTHON=/path/to/python3.13."
command -v "$python" >/dev/null || say "Python not found at '$python': $needs"
# torchvision has no release for 3.14.1.
"$python" -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 14) or v[:3] == (3, 14, 1))' \
  || say "Unsupported $("$python" --version 2>&1): $needs"
"$python" -c 'import ensurepip, venv' 2>/dev/null || say "'$python' cannot make virtual environments; on Debian: apt-get install python3-venv"
# MLflow's migrations take a percent sign in their path for a variable.
[[ "$PWD" != *%* ]] || say "MLflow cannot be installed below a path with a percent sign: move this folder ($PWD)"
free=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1024 / 1024))
[ "$free" -ge 8 ] || say "only $free GB are free here; PyTorch and the rest need up to 8 GB"

echo "install: making .venv (a few minutes at most)"
rm -f .venv/installed
step venv "cannot make .venv here; see the lines above" "$python" -m venv .venv
# The lines of the lock file from `uv==` to its last hash.
sed -n '/^uv==/,/[^\\]$/p' requirements/dev.txt >.venv/uv.txt
step uv "cannot reach a package index; check the network or pip's settings" \
  .venv/bin/pip install --disable-pip-version-check --require-hashes -r .venv/uv.txt
uv=.venv/bin/uv
step packages "cannot install requirements/dev.txt; see the lines above" \
  $uv pip install --require-hashes --no-deps -r requirements/dev.txt
# The CPU builds are a fifth of the size; `auto` takes CUDA's where there is a driver. Where PyTorch's own index cannot
# be reached the default one has the same versions.
if ! UV_HTTP_RETRIES=0 progress "install: PyTorch" "$log" \
  $uv pip install --torch-backend "${TORCH_BACKEND:-auto}" -r requirements/torch.txt; then
  output=$(<"$log")
  [[ $output == *"Failed to fetch"*pytorch.org* || $output == *"not found in the package registry"* ]] ||
    { tail -n 20 "$log" >&2; say "cannot install requirements/torch.txt; see the lines above"; }
  echo "install: PyTorch's own index does not answer, taking the default one"
  step PyTorch "cannot install requirements/torch.txt; see the lines above" $uv pip install -r requirements/torch.txt
fi
step Manasight "cannot install Manasight itself; see the lines above" $uv pip install --no-deps --editable .
step check "the packages do not fit each other; see the lines above" $uv pip check
step imports "the packages cannot be imported; see the lines above" .venv/bin/python -c "import numpy, torch"
touch .venv/installed
