#!/usr/bin/env bash
# Builds images with docker/bake.hcl, stamped with the commit. Usage: images.sh [TARGET...]; its settings are bake's variables.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/preflight.sh
. docker/progress.sh

# CUDA's torch takes 25 GB for the first build: its packages, the image packed and unpacked, and the build cache. A later
# build finds most of it in the cache.
room() {
  local cuda=
  [[ " $* " != *" trainer-cuda "* ]] || cuda=trainer-cuda
  [ "${TORCH_INDEX:-}" != default ] || [[ $# -gt 0 && " $* " != *" trainer "* ]] || cuda=trainer
  [ -n "$cuda" ] && [ -z "$(docker image ls --quiet --filter "reference=*/$cuda" --filter "reference=*/*/$cuda" 2>/dev/null)" ] && echo 25 || echo 8
}
preflight "$(room "$@")"

# An empty variable means bake's own default.
for name in PYTHON_IMAGE UV_IMAGE TORCH_INDEX IMAGENET MODEL REGISTRY NAMESPACE TAG PLATFORMS SBOM PROVENANCE; do
  [ -n "${!name:-}" ] || unset "$name"
done
[ -n "${REVISION:-}" ] || REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -n "${SOURCE_DATE_EPOCH:-}" ] || SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
CREATED=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
model=${MODEL:-models/starter}/model.onnx
[ -s "$model" ] || fail "there is no $model to put into the images; train one, or set MODEL to a folder that has one"
MODEL_SHA256=$(sha256 "$model" | cut -d ' ' -f 1)
# The targets that others build on stay in the cache; the docker driver would unpack them into the store too.
export BUILDX_NO_DEFAULT_LOAD=1
# What is read from outside the checkout (UV_CONFIG, WEIGHTS) was named by the user; newer versions would ask once more.
export BUILDX_BAKE_ENTITLEMENTS_FS=0
export REVISION SOURCE_DATE_EPOCH CREATED MODEL_SHA256

# On a terminal buildx draws its own progress; in a log its thousands of lines are shown only when the build fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
build() { docker buildx bake -f docker/bake.hcl ${NO_CACHE:+--no-cache} "$@"; }
if [ -t 2 ]; then
  build "$@" || fail "The build failed; see above. Every base image can be replaced (PYTHON_IMAGE, UV_IMAGE); where PyTorch's own index
does not answer, TORCH_INDEX=default IMAGENET=none take torch from the default one; \`docker system prune\` makes room on Docker's disk."
elif ! progress "build" "$log" build --progress=plain "$@"; then
  tail -n 40 "$log" >&2
  ! grep -q 'ERROR.*pytorch.org' "$log" ||
    fail "PyTorch's own index could not be reached; TORCH_INDEX=default IMAGENET=none take torch from the default one"
  if grep -qE 'no such host|i/o timeout|connection refused|failed to resolve source metadata' "$log"; then
    fail "a base image or package could not be fetched; docs/containers.md says how to replace each by another source"
  fi
  ! grep -q 'no space left on device' "$log" || fail "Docker's disk is full: \`docker system prune\` makes room; CUDA's torch takes 25 GB to build."
  fail "the build failed; see above"
fi
