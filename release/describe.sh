#!/usr/bin/env bash
# Writes the pages of our images on Docker Hub: release/dockerhub.md, whose table has the short texts.
# DOCKERHUB_TOKEN needs the scope "read, write, delete", which the Hub asks for here. COPY_TO: the registry and namespace.
set -euo pipefail
cd "$(dirname "$0")/.."
hub=${HUB:-https://hub.docker.com} namespace=${COPY_TO:?a registry and namespace}
namespace=${namespace##*/}
ask() { curl --silent --show-error --fail --retry 3 --max-time 60 --header "Content-Type: application/json" "$@"; }
token=$(jq -n '{identifier: env.DOCKERHUB_USERNAME, secret: env.DOCKERHUB_TOKEN}' | ask --data @- "$hub/v2/auth/token" | jq -er .access_token)
sed -n 's/^| \[`manasight\/\([a-z-]*\)`\](.*) | \(.*\) |$/\1 \2/p' release/dockerhub.md | while read -r name text; do
  jq -n --arg text "$text" --rawfile page release/dockerhub.md '{description: $text, full_description: $page}' |
    ask --request PATCH --data @- --header @<(echo "Authorization: Bearer $token") --output /dev/null "$hub/v2/repositories/$namespace/$name/"
  echo "described $namespace/$name"
done
