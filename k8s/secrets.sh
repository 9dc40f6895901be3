#!/usr/bin/env bash
# Makes the local overlay's passwords by docker/secrets.sh, copied to where kustomize may read them. Git ignores both places.
set -euo pipefail
cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=kubernetes  # the name under which they are kept
docker/secrets.sh
umask 077
mkdir -p k8s/overlays/local/secrets  # an archive of a release has none
found=kept
for name in minio mlflow_database postgres; do
  [ -s "k8s/overlays/local/secrets/$name" ] || { cp ".secrets/$COMPOSE_PROJECT_NAME/$name" k8s/overlays/local/secrets/; found=made; }
done
echo "the passwords in k8s/overlays/local/secrets were $found; keep them as long as the cluster's volumes live"
