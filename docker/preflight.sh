# shellcheck shell=bash
# What the scripts of this folder ask of a machine, each miss in one sentence. Sourced, not run.

fail() { echo "$*" >&2; exit 1; }

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# preflight GIGABYTES: Docker with an engine, buildx and a compose that knows what compose.yaml uses, and room for images.
preflight() {
  local without="\`make demo\` does without Docker" version free
  command -v docker >/dev/null || fail "Docker is not installed: get it from https://docs.docker.com/get-docker/; $without."
  docker info >/dev/null 2>&1 || fail "No Docker Engine answers: start it (or join its group); $without."
  version=$(docker version --format '{{.Server.Version}}' 2>/dev/null) || version=
  [[ ! $version =~ ^[0-9]+ ]] || [ "${BASH_REMATCH[0]}" -ge 25 ] ||
    fail "Docker Engine $version is too old: 25 or newer is needed; $without."
  docker buildx version >/dev/null 2>&1 || fail "Docker has no buildx plugin: install docker-buildx; $without."
  version=$(docker compose version --short 2>/dev/null) || fail "Docker has no compose plugin: install docker-compose 2.23 or newer; $without."
  version=${version#v}
  [ "$(printf '%s\n' 2.23.0 "${version%%[-+]*}" | sort -V | head -n 1)" = 2.23.0 ] ||
    fail "Docker Compose $version is too old: 2.23 or newer is needed; $without."
  # The engine's folder is not always on this machine (Docker Desktop); then nothing is said about room.
  free=$(df -Pk "$(docker info --format '{{.DockerRootDir}}')" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024 / 1024) }') || true
  [ -z "$free" ] || [ "$free" -ge "$1" ] || fail "Docker's disk has $free GB free and $1 GB are needed: \`docker system prune\` makes room."
}
