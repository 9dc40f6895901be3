#!/usr/bin/env bash
# A registry on this machine, for images that only have to reach the next step. Usage: registry.sh PORT
set -euo pipefail
port=${1:?a port}
answers() { curl --noproxy '*' --silent --fail --max-time 2 "http://localhost:$port/v2/" >/dev/null; }
answers && exit 0
if command -v docker-registry >/dev/null; then
  # Debian's own, for where no image can be pulled.
  folder=$(mktemp -d)
  printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$folder" "$port" >"$folder/config.yml"
  docker-registry serve "$folder/config.yml" >"$folder/log" 2>&1 &
else
  docker run --detach --publish "127.0.0.1:$port:5000" registry:3 >/dev/null
fi
for _ in $(seq 60); do answers && exit 0; sleep 0.5; done
echo "registry: nothing answers on port $port" >&2
exit 1
