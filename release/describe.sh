#!/usr/bin/env bash
# Writes the pages of our images on Docker Hub: the short text is the image's label, the long one is release/dockerhub.md.
# DOCKERHUB_TOKEN needs the scope "read, write, delete", which the Hub asks for here. COPY_TO: the registry and namespace.
set -euo pipefail
cd "$(dirname "$0")/.."
hub=${HUB:-https://hub.docker.com} namespace=${COPY_TO:?a registry and namespace}
namespace=${namespace##*/}
ask() { curl --silent --show-error --fail --retry 3 --max-time 60 --header "Content-Type: application/json" "$@"; }
token=$(jq -n '{identifier: env.DOCKERHUB_USERNAME, secret: env.DOCKERHUB_TOKEN}' | ask --data @- "$hub/v2/auth/token" | jq -er .access_token)
docker buildx bake -f docker/bake.hcl --print published 2>/dev/null |
  jq -c --rawfile page release/dockerhub.md '.group.published.targets[] as $name
    | {$name, description: .target[$name].labels["org.opencontainers.image.description"], full_description: $page}' |
  while read -r image; do
    name=$(jq -r .name <<<"$image")
    jq 'del(.name)' <<<"$image" |
      ask --request PATCH --data @- --header @<(echo "Authorization: Bearer $token") --output /dev/null "$hub/v2/repositories/$namespace/$name/"
    echo "described $namespace/$name"
  done
