#!/usr/bin/env bash
# The stack's life: up, train, logs, ps, down, purge, backup, restore, upgrade; and images. The Makefile says what each does.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2034  # what the user said, before settings of .env and defaults are added to it; for train.sh
given=$(compgen -e | tr '\n' ' ')
. docker/preflight.sh
. docker/database_version.sh
. docker/jobs.sh
. docker/settings.sh
. docker/train.sh
. docker/backup.sh

# The release writes the version here.
image_tag() { echo "${TAG:-0.1.0}"; }

# Passwords are in this folder, what they open in volumes: new ones would open nothing.
read_secrets() {
  local name
  for name in postgres mlflow_database minio; do
    [ -e "$secrets/$name" ] || ! docker volume inspect "${project}_database" >/dev/null 2>&1 ||
      fail "The stack's data is here, but not its password $secrets/$name: bring it back, or give the data up with \`make purge\`."
  done
  docker/secrets.sh
  label_for_containers "$secrets"
  # Once asked for, the password stays until MLFLOW_AUTH=none takes it away: no later `make up` opens MLflow by omission.
  if [ -n "$MLFLOW_AUTH" ]; then echo "$MLFLOW_AUTH" >"$secrets/auth"; fi
  MLFLOW_AUTH=$(cat "$secrets/auth" 2>/dev/null || true)
  [ "$MLFLOW_AUTH" != none ] || MLFLOW_AUTH=
  export MLFLOW_AUTH MANASIGHT_CLIENT_PASSWORD=
  [ -z "$MLFLOW_AUTH" ] || MANASIGHT_CLIENT_PASSWORD=$(cat "$secrets/mlflow_admin")
}

# label_for_containers PATH: a file of ours that containers read, where the engine confines them by SELinux.
selinux=
label_for_containers() {
  [[ "$(docker info --format '{{.SecurityOptions}}' 2>/dev/null)" == *name=selinux* ]] || return 0
  selinux=1
  chcon -R -t container_file_t "$1" 2>/dev/null ||
    fail "Containers cannot read $1 on this machine with SELinux; as its owner or root: chcon -R -t container_file_t $1"
}

running() { [ -n "$(docker compose ps --quiet --status running "$1" 2>/dev/null)" ]; }

containerd_store() { [[ "$(docker info --format '{{.DriverStatus}}')" == *containerd.snapshotter* ]]; }

# Only this machine's platform, from the cache when nothing changed.
prepare_images() {
  local progress=
  if [ -n "${PULL:-}" ]; then
    say "Pulling the images: $*"
    progress=still_pulling
    supervise docker compose --profile train --profile gpu pull --quiet "${@/trainer-cuda/trainer-gpu}"
  else
    say "Building the images: $*"
    # By the engine's own builder, whatever else is in use. Without attestations: other stores than containerd's cannot keep
    # them, and the time in them would make a new image, and so new containers, of every `make up`.
    SBOM=false PROVENANCE=false PLATFORMS=linux/$(docker version --format '{{.Server.Arch}}') \
      COMPRESSION=zstd BUILDX_BUILDER=$(docker context show) supervise docker/images.sh "$@"
  fi
}

still_pulling() { echo "still pulling"; }

# Which of the stack's containers are not what they should become.
waiting_for() {
  docker ps --all --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False \
    --format '{{.Label "com.docker.compose.service"}}: {{.Status}}' |
    awk '!/\(healthy\)|Exited \(0\)/ { found = found (found ? ", " : "") $0 } END { print found ? "waiting for " found : "still starting" }'
}

check_ports() {
  local entry address=${BIND#[} service inside port variable
  address=${address%]}
  is_own_address "$address" || fail "BIND must be an address of this machine or 0.0.0.0; $address is not."
  for entry in "app 8501 $APP_HOST_PORT PORT" "mlflow 5000 $MLFLOW_HOST_PORT MLFLOW_PORT"; do
    read -r service inside port variable <<<"$entry"
    [[ "$(docker compose port "$service" "$inside" 2>/dev/null)" != *":$port" ]] || continue
    if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
      fail "Port $port is taken by another program: stop it, or choose another with $variable=…"
    fi
  done
}

# Asked where it can be known: not of an engine on another machine or in a virtual one.
is_own_address() {
  case $1 in 127.* | 0.0.0.0 | *:*) return 0 ;; esac
  if [ -n "${DOCKER_HOST:-}" ] || [ "$(docker context show)" != default ] || ! command -v ip >/dev/null; then return 0; fi
  grep -qF " $1/" <<<"$(ip -o addr show)"
}

confirm() {
  local answer
  [ -z "${YES:-}" ] || return 0
  [ -t 0 ] || fail "$1 Say YES=1 to do it without being asked."
  read -r -p "$1 Type yes to go on: " answer
  [ "$answer" = yes ] || fail "Nothing was changed."
}

# stop_older SERVICE: a container of another image must be gone before the schema changes under it.
stop_older() {
  local container wanted
  container=$(docker compose ps --quiet --status running "$1")
  wanted=$(docker image inspect --format '{{.Id}}' "$MANASIGHT_REGISTRY/$1:$MANASIGHT_TAG")
  [ -z "$container" ] || [ "$(docker inspect --format '{{.Image}}' "$container")" = "$wanted" ] || steadily docker compose stop "$1" 2>/dev/null
}

up() {
  preflight 5
  check_database "${project}_database"
  check_ports
  read_secrets
  chmod go+r k8s/base/database.sql  # PostgreSQL's user reads it where it is
  label_for_containers k8s/base/database.sql
  advice="Nothing was started; what was built so far is kept: run \`make up\` again."
  prepare_images app mlflow
  remember_state
  stop_older mlflow
  local before=$cleanup progress=waiting_for
  [ "$before" != : ] || cleanup=end_up
  supervise docker compose --progress quiet up --detach --wait --wait-timeout 300 --quiet-pull ||
    fail "The stack did not become healthy in time${restored:+, but all data are restored}. On a busy machine run \`make up\` again; otherwise \`make ps\` says which part, \`make logs SERVICE=name\` why."
  cleanup=$before
  cat <<END

The app:     http://localhost:$APP_HOST_PORT
Its MLflow:  http://localhost:$MLFLOW_HOST_PORT/#/experiments?workflowType=machine_learning
Next:        make train    (a new model; the open page switches to it)
END
}

# Whether anything of the stack ran, and its database existed.
remember_state() {
  ran=$(docker compose ps --quiet --status running 2>/dev/null) || ran=
  volume=$(docker volume inspect --format '{{.Name}}' "${project}_database" 2>/dev/null) || volume=
}
ran='' volume='' restored=''

end_up() {
  [ -n "$interrupted" ] || return 0
  advice="What ran before still runs, perhaps partly new: run \`make up\` again."
  if [ -z "$ran" ]; then
    take_back_start
    advice="Nothing is left running: run \`make up\` again."
  fi
}

# A database whose first start was cut off would stay half made: PostgreSQL takes any content of its folder for a
# finished one.
take_back_start() {
  apart docker compose down --remove-orphans >/dev/null 2>&1
  [ -n "$volume" ] || apart docker volume rm "${project}_database" >/dev/null 2>&1
}

upgrade() {
  FILE=${FILE:-backups/before-upgrade-$(date -u +%Y%m%dT%H%M%SZ).tar}
  backup
  echo "Should the new version not work: check out the one before, then make restore FILE=$FILE"
  up
}

# The secrets go last: without them the data could not be read again.
purge() {
  local left
  preflight 0
  read_settings
  confirm "This deletes all runs, models, artifacts and data sets of the stack '$project', and its secrets."
  advice="The stack is partly deleted: run \`make purge\` again."
  supervise docker compose --profile train --profile gpu --profile proxy down --volumes --remove-orphans
  left=$(docker volume ls --quiet --filter "label=com.docker.compose.project=$project" | tr '\n' ' ')
  [ -z "$left" ] || fail "These volumes of the stack are still there, so its secrets stay too: ${left% }"
  ! docker volume inspect "${project}_database" >/dev/null 2>&1 || fail "The volume ${project}_database is still there, so the stack's secrets stay too."
  [ "$(cat "$secrets/auth" 2>/dev/null)" != basic ] ||
    say "MLflow asked for a password; \`make restore\` of a backup made meanwhile keeps that, a new \`make up\` needs MLFLOW_AUTH=basic again."
  rm -rf "$secrets"
}

services() { docker compose --profile train --profile gpu --profile proxy config --services; }

case ${1:-} in
  up) preflight 5; read_settings; up ;;
  train) check_training; train ;;
  backup | restore | upgrade | purge) "$1" ;;
  images)
    preflight 8
    containerd_store ||
      fail 'Images of several platforms need the containerd image store: put {"features": {"containerd-snapshotter": true}} into Docker'"'"'s daemon.json and restart the engine; `make up` does without.'
    read_settings
    advice="What was built so far is kept: run \`make images\` again."
    BUILDX_BUILDER=$(docker context show) supervise docker/images.sh "${@:2}"
    ;;
  logs)
    preflight 0
    read_settings
    [ -z "${SERVICE:-}" ] || grep -qxF -- "$SERVICE" <<<"$(services)" ||
      fail "There is no service '$SERVICE': SERVICE must be one of $(services | paste -sd ' ' -)."
    trap - EXIT INT TERM HUP PIPE
    [ -t 1 ] && ansi=auto || ansi=never
    exec docker compose --ansi "$ansi" logs --follow --tail 100 ${SERVICE:+"$SERVICE"}
    ;;
  ps)
    preflight 0
    read_settings
    docker compose ps --all
    docker compose ps --quiet | xargs -r docker stats --no-stream --format 'table {{.Name}}\t{{.MemUsage}}\t{{.CPUPerc}}'
    ;;
  down)
    preflight 0
    read_settings
    advice="Some of it may still run: run \`make down\` again."
    supervise docker compose --profile train --profile gpu --profile proxy down --remove-orphans
    ;;
  *) fail "Say one of: up, train, logs, ps, down, purge, backup, restore, upgrade, images." ;;
esac
