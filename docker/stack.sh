#!/usr/bin/env bash
# The stack's life: up, train, logs, ps, down, purge, backup, restore, upgrade; and images. The Makefile says what each does.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/preflight.sh
. docker/database_version.sh

for name in POSTGRES_IMAGE MINIO_IMAGE COMPOSE_FILE TAG EXPERIMENT; do
  [ -n "${!name:-}" ] || unset "$name"
done
export MANASIGHT_REGISTRY=${REGISTRY:-ghcr.io}/${NAMESPACE:-manasight} MANASIGHT_TAG=${TAG:-0.1.0}
app_port=${APP_HOST_PORT:-8501} mlflow_port=${MLFLOW_HOST_PORT:-5000} bind=${BIND:-127.0.0.1}

project=${COMPOSE_PROJECT_NAME:-manasight}
settings=.secrets/$project

# Passwords live in this folder, what they open in volumes: new ones would open nothing.
secrets() {
  local name
  for name in postgres mlflow_database minio; do
    [ -e "$settings/$name" ] || ! docker volume inspect "${project}_database" >/dev/null 2>&1 ||
      fail "The stack's data is here, but not its password $settings/$name: bring it back, or give the data up with \`make purge\`."
  done
  docker/secrets.sh
  # Once asked for, the password stays until MLFLOW_AUTH=none takes it away: no later \`make up\` opens MLflow by omission.
  case ${MLFLOW_AUTH:-} in '' | basic | none) ;; *) fail "MLFLOW_AUTH is 'basic' or 'none', not '$MLFLOW_AUTH'." ;; esac
  if [ -n "${MLFLOW_AUTH:-}" ]; then echo "$MLFLOW_AUTH" >"$settings/auth"; fi
  MLFLOW_AUTH=$(cat "$settings/auth" 2>/dev/null || true)
  [ "$MLFLOW_AUTH" != none ] || MLFLOW_AUTH=
  export MLFLOW_AUTH
  [ -z "${MLFLOW_AUTH:-}" ] || MANASIGHT_CLIENT_PASSWORD=$(cat "$settings/mlflow_admin")
  export MANASIGHT_CLIENT_PASSWORD=${MANASIGHT_CLIENT_PASSWORD:-}
}

running() { [ -n "$(docker compose ps --quiet --status running "$1" 2>/dev/null)" ]; }

containerd_store() { [[ "$(docker info --format '{{.DriverStatus}}')" == *containerd.snapshotter* ]]; }

# Only this machine's platform, from the cache when nothing changed.
prepare_images() {
  if [ -n "${PULL:-}" ]; then
    docker compose --profile train --profile gpu pull --quiet "${@/trainer-cuda/trainer-gpu}"
  else
    # By the engine's own builder, whatever else is in use. Without attestations: other stores than containerd's cannot keep
    # them, and the time in them would make a new image, and so new containers, of every `make up`.
    SBOM=false PROVENANCE=false PLATFORMS=linux/$(docker version --format '{{.Server.Arch}}') \
      COMPRESSION=zstd BUILDX_BUILDER=$(docker context show) docker/images.sh "$@"
  fi
}

check_ports() {
  local entry address=${bind#[}
  for entry in "app 8501 $app_port PORT" "mlflow 5000 $mlflow_port MLFLOW_PORT"; do
    read -r service inside port variable <<<"$entry"
    [[ "$(docker compose port "$service" "$inside" 2>/dev/null)" != *":$port" ]] || continue
    if (exec 3<>"/dev/tcp/${address%]}/$port") 2>/dev/null; then
      fail "Port $port is taken by another program: stop it, or choose another with $variable=…"
    fi
  done
}

confirm() {
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
  [ -z "$container" ] || [ "$(docker inspect --format '{{.Image}}' "$container")" = "$wanted" ] || docker compose stop "$1" 2>/dev/null
}

up() {
  preflight 5
  check_database "${project}_database"
  check_ports
  secrets
  chmod go+r docker/mlflow/database.sql  # PostgreSQL's user reads it where it is
  prepare_images app mlflow
  stop_older mlflow
  docker compose --progress quiet up --detach --wait --wait-timeout 300 --quiet-pull ||
    fail "The stack did not become healthy: \`make ps\` says which part, \`make logs SERVICE=name\` why."
  cat <<EOF

The app:     http://localhost:$app_port
Its MLflow:  http://localhost:$mlflow_port
Next:        make train    (a new model; the open page switches to it)
EOF
}

# One step of the job in a container. Killed from outside, for want of memory or by the engine, it is done again; a
# training that had begun goes on from its last checkpoint. `id` and `version` are those of what a step made.
step() {
  local status attempt log found
  log=$(mktemp)
  for attempt in 1 2 3; do
    status=0
    "${run[@]}" "$@" | tee "$log" || status=$?
    found=$(sed -n 's/^run: //p' "$log")
    id=${found:-${id:-}}
    found=$(sed -n 's/^registered: .* version //p' "$log")
    version=${found:-${version:-}}
    # Without MLflow's container, it was `make down`.
    if [ "$status" != 137 ] || [ "$attempt" = 3 ] || [ -z "$(docker compose ps --all --quiet mlflow)" ]; then break; fi
    echo "The step '$1' was killed; it is done again." >&2
    [ "$1" != fit ] || [ -z "$id" ] || set -- fit --resume "$id"
  done
  rm -f "$log"
  return "$status"
}

# Whether an earlier run made this data set. Folders of data are made as a whole or not at all.
there() { step data describe "$1" >/dev/null 2>&1; }

train() {
  local service=trainer data=/state/data/demo-${CARDS:-900} mount=() run id version
  preflight 5
  running mlflow || fail "The stack is not running: \`make up\` first."
  if [ -n "${DATA:-}" ]; then
    [ -d "$DATA" ] || fail "There is no folder '$DATA': DATA must be one of labelled images."
    mount=(--volume "$(cd "$DATA" && pwd):/data:ro")
    data=/data
  fi
  secrets
  [ -z "${GPU:-}" ] || service=trainer-gpu
  prepare_images "${service/trainer-gpu/trainer-cuda}"
  # Without its dependencies: they run, and asking for them would repeat bucket and migration before each of five steps.
  run=(docker compose --profile train --profile gpu run --rm --no-deps --no-TTY ${mount[@]+"${mount[@]}"} "$service")
  if [ -z "${DATA:-}" ]; then
    there "$data" || step data demo "$data" --count "${CARDS:-900}"
  elif [ ! -d "$DATA/train" ]; then
    # A split that an earlier run made stays: its test images must not move into training. Of another folder, or of other
    # files in it, a new one is made.
    data=/state/data/$(basename "$DATA")-$(cd "$DATA" && { pwd; find . -type f | sort; } | cksum | cut -d ' ' -f 1)
    there "$data" || step data split /data "$data"
  fi
  # shellcheck disable=SC2086  # ARGS is a list of arguments
  step fit --config "trainer/experiments/${EXPERIMENT:-demo}.yaml" --data.root "$data" ${ARGS:-}
  # By name: another `make train` may have made one since.
  set -- ${id:+--run "$id"}
  step evaluate "$@"
  step export "$@"
  step promote ${version:+--version "$version"}
  echo "The champion is at http://localhost:$mlflow_port; the app at http://localhost:$app_port asks for it every few seconds."
}

no_training() {
  [ -z "$(docker compose --profile train --profile gpu ps --quiet --status running trainer trainer-gpu)" ] ||
    fail "A training is running; its artifacts are half written. $1 when it has ended."
}

# Database and bucket of one moment: MLflow, which alone writes to both, stands still; the app goes on with the model it has.
backup() {
  local file=${FILE:-backups/manasight-$(date -u +%Y%m%dT%H%M%SZ).tar} folder
  preflight 0
  running postgres || fail "The stack is not running: \`make up\` first."
  no_training "Back up"
  [ ! -e "$file" ] || fail "$file exists; choose another with FILE=…"
  mkdir -p "$(dirname "$file")"
  folder=$(mktemp -d "$(dirname "$file")/.backup.XXXXXX")
  # shellcheck disable=SC2064  # the folder of now
  trap "rm -rf '$folder' '$file.part'; docker compose start mlflow >/dev/null 2>&1" EXIT
  docker compose stop mlflow 2>/dev/null
  docker compose exec -T postgres pg_dump -U postgres -Fc --no-owner mlflow >"$folder/database.dump"
  docker compose run --rm --no-TTY --no-deps bucket bucket save </dev/null >"$folder/bucket.tar" 2>"$folder/errors" ||
    { cat "$folder/errors" >&2; fail "The bucket could not be read; nothing was written."; }
  docker compose start mlflow >/dev/null 2>&1
  (cd "$folder" && sha256 database.dump bucket.tar >SHA256SUMS)
  (umask 077 && tar -C "$folder" -cf "$file.part" SHA256SUMS database.dump bucket.tar)
  mv "$file.part" "$file"
  rm -rf "$folder"
  trap - EXIT
  echo "$file: $(du -h "$file" | cut -f 1), runs, registry and artifacts"
}

sql() { docker compose exec -T postgres psql -U postgres -qc "$1"; }

restore() {
  local folder
  [ -n "${FILE:-}" ] || fail "Say which backup: make restore FILE=backups/…"
  [ -s "$FILE" ] || fail "There is no backup '$FILE'."
  preflight 5
  no_training "Restore"
  check_ports
  # Beside the backup: an engine in a virtual machine does not see every /tmp.
  folder=$(mktemp -d "$(cd "$(dirname "$FILE")" && pwd)/.restore.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  tar -C "$folder" -xf "$FILE" 2>/dev/null && (cd "$folder" && sha256 -c SHA256SUMS >/dev/null 2>&1) &&
    [ "$(awk '{ print $2 }' "$folder/SHA256SUMS" | sort | tr '\n' ' ')" = "bucket.tar database.dump " ] ||
    fail "$FILE is not a whole backup: its checksums do not fit; nothing was changed."
  confirm "This replaces all runs, models and artifacts of the stack by those in $FILE."
  secrets
  prepare_images app mlflow
  docker compose stop mlflow app 2>/dev/null
  docker compose --progress quiet up --detach --wait --wait-timeout 120 postgres minio ||
    fail "Database or object store did not start: \`make logs SERVICE=postgres\` says why; nothing was replaced."
  # The old database goes when the new one is whole.
  sql "DROP DATABASE IF EXISTS restored WITH (FORCE)"
  sql "CREATE DATABASE restored OWNER mlflow"
  sql "REVOKE CONNECT ON DATABASE restored FROM PUBLIC"
  docker compose exec -T postgres pg_restore -U postgres --role=mlflow --no-owner --exit-on-error -d restored <"$folder/database.dump" ||
    fail "The database in $FILE could not be read; nothing was replaced: \`make up\` goes on with what was there."
  sql "DROP DATABASE IF EXISTS mlflow WITH (FORCE)"
  sql "ALTER DATABASE restored RENAME TO mlflow"
  # Mounted and not piped: boto3 seeks in what it uploads.
  chmod 644 "$folder/bucket.tar"
  { docker compose run --rm --no-TTY --no-deps bucket >/dev/null </dev/null &&
    docker compose run --rm --no-TTY --no-deps --volume "$folder/bucket.tar:/bucket.tar:ro" bucket bucket load </dev/null; } ||
    fail "The runs of $FILE are back, its artifacts are not: run the same \`make restore\` again."
  up
}

upgrade() {
  FILE=${FILE:-backups/before-upgrade-$(date -u +%Y%m%dT%H%M%SZ).tar}
  backup
  echo "Should the new version not work: check out the one before, then make restore FILE=$FILE"
  up
}

case ${1:-} in
  up | train | backup | restore | upgrade) "$1" ;;
  images)
    preflight 8
    containerd_store ||
      fail 'Images of several platforms need the containerd image store: put {"features": {"containerd-snapshotter": true}} into Docker'"'"'s daemon.json and restart the engine; `make up` does without.'
    BUILDX_BUILDER=$(docker context show) docker/images.sh "${@:2}"
    ;;
  logs) preflight 0; docker compose logs --follow --tail 100 ${SERVICE:+"$SERVICE"} ;;
  ps)
    preflight 0
    docker compose ps --all
    docker compose ps --quiet | xargs -r docker stats --no-stream --format 'table {{.Name}}\t{{.MemUsage}}\t{{.CPUPerc}}'
    ;;
  down) preflight 0; docker compose --profile train --profile gpu down --remove-orphans ;;
  purge)
    preflight 0
    confirm "This deletes all runs, models, artifacts and data sets of the stack, and its secrets."
    docker compose --profile train --profile gpu down --volumes --remove-orphans
    rm -rf "$settings"
    ;;
  *) fail "Say one of: up, train, logs, ps, down, purge, backup, restore, upgrade, images." ;;
esac
