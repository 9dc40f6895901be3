#!/usr/bin/env bash
# A cluster in containers with this tree's images in it. KIND_NODE: the node's image; empty: kind's own newest.
set -euo pipefail
cd "$(dirname "$0")/.."
node=()
[ -z "${KIND_NODE:-}" ] || node=(--image "$KIND_NODE")
# Two nodes to work on, so that one can be drained.
grep -qx manasight <<<"$(kind get clusters 2>/dev/null)" ||
  kind create cluster --name manasight --config - --wait 180s ${node[@]+"${node[@]}"} <<'EOF'
apiVersion: kind.x-k8s.io/v1alpha4
kind: Cluster
nodes:
  - role: control-plane
  - role: worker
  - role: worker
EOF
platform=linux/$(docker version --format '{{.Server.Arch}}')
PLATFORMS=$platform docker/images.sh
# Not `kind load docker-image`: it fails on images of several platforms (kind#3795).
# By a file: kind opens it once for each node, and a pipe would be shared out between them.
archive=$(mktemp)
trap 'rm -f "$archive"' EXIT
for image in app mlflow trainer; do
  docker save --platform "$platform" --output "$archive" "${REGISTRY:-docker.io}/${NAMESPACE:-manasight}/$image:$(python3 release/tags.py version)"
  kind load image-archive --name manasight --nodes manasight-worker,manasight-worker2 "$archive"
done
