#!/usr/bin/env bash
# The stack's life: up, train, logs, ps, down, purge, backup, restore, upgrade. The Makefile says what each does.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/preflight.sh

for name in POSTGRES_IMAGE MINIO_IMAGE COMPOSE_FILE TAG EXPERIMENT; do
  [ -n "${!name:-}" ] || unset "$name"
done
export MANASIGHT_REGISTRY=${REGISTRY:-ghcr.io}/${NAMESPACE:-manasight} MANASIGHT_TAG=${TAG:-0.1.0}
app_port=${APP_HOST_PORT:-8501} mlflow_port=${MLFLOW_HOST_PORT:-5000} bind=${BIND:-127.0.0.1}

secrets() {
  docker/secrets.sh
  [ -z "${MLFLOW_AUTH:-}" ] || MANASIGHT_CLIENT_PASSWORD=$(cat ".secrets/${COMPOSE_PROJECT_NAME:-manasight}/mlflow_admin")
  export MANASIGHT_CLIENT_PASSWORD=${MANASIGHT_CLIENT_PASSWORD:-}
}

running() { [ -n "$(docker compose ps --quiet --status running "$1" 2>/dev/null)" ]; }

# Only this machine's platform, from the cache when nothing changed.
prepare_images() {
  if [ -n "${PULL:-}" ]; then
    docker compose --profile train pull --quiet "$@"
  else
    PLATFORMS=linux/$(docker version --format '{{.Server.Arch}}') COMPRESSION=zstd docker/images.sh "$@"
  fi
}

check_ports() {
  local entry
  for entry in "app $app_port PORT" "mlflow $mlflow_port MLFLOW_PORT"; do
    read -r service port variable <<<"$entry"
    if ! running "$service" && (exec 3<>"/dev/tcp/$bind/$port") 2>/dev/null; then
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

up() {
  preflight 5
  check_ports
  secrets
  prepare_images app mlflow
  docker compose --progress quiet up --detach --wait --wait-timeout 300 --quiet-pull ||
    fail "The stack did not become healthy: \`make ps\` says which part, \`make logs SERVICE=name\` why."
  cat <<EOF

The app:     http://localhost:$app_port
Its MLflow:  http://localhost:$mlflow_port
Next:        make train    (a new model; the open page switches to it)
EOF
}

# One step of the job in a container. Killed from outside, for want of memory or by the engine, it is done again; a
# training that had begun goes on from its last checkpoint.
step() {
  local status attempt id log
  log=$(mktemp)
  for attempt in 1 2 3; do
    status=0
    "${run[@]}" "$@" | tee "$log" || status=$?
    [ "$status" = 137 ] && [ "$attempt" -lt 3 ] || break
    echo "The step '$1' was killed; it is done again." >&2
    id=$(sed -n 's/^run: //p' "$log")
    [ "$1" != fit ] || [ -z "$id" ] || set -- fit --resume "$id"
  done
  rm -f "$log"
  return "$status"
}

train() {
  local service=trainer data=/state/data/demo mount=() run
  running mlflow || fail "The stack is not running: \`make up\` first."
  secrets
  [ -z "${GPU:-}" ] || service=trainer-gpu
  prepare_images "${service/trainer-gpu/trainer-cuda}"
  if [ -n "${DATA:-}" ]; then
    [ -d "$DATA" ] || fail "There is no folder '$DATA': DATA must be one of labelled images."
    mount=(--volume "$(cd "$DATA" && pwd):/data:ro")
    data=/data
  fi
  # Without its dependencies: they run, and asking for them would repeat bucket and migration before each of five steps.
  run=(docker compose --profile train --profile gpu run --rm --no-deps --no-TTY ${mount[@]+"${mount[@]}"} "$service")
  if [ -z "${DATA:-}" ]; then
    step data demo $data --count "${CARDS:-900}"
  elif [ ! -d "$DATA/train" ]; then
    data=/state/data/$(basename "$DATA")
    # A split that an earlier run made stays: its test images must not move into training.
    "${run[@]}" data describe "$data" >/dev/null 2>&1 || step data split /data "$data"
  fi
  # shellcheck disable=SC2086  # ARGS is a list of arguments
  step fit --config "trainer/experiments/${EXPERIMENT:-demo}.yaml" --data.root "$data" ${ARGS:-}
  step evaluate
  step export
  step promote
  echo "The champion is at http://localhost:$mlflow_port; the app at http://localhost:$app_port asks for it every few seconds."
}

# Database and bucket of one moment: MLflow, which alone writes to both, stands still; the app goes on with the model it has.
backup() {
  local file=${FILE:-backups/manasight-$(date -u +%Y%m%dT%H%M%SZ).tar} folder
  running postgres || fail "The stack is not running: \`make up\` first."
  [ -z "$(docker compose --profile train --profile gpu ps --quiet --status running trainer trainer-gpu)" ] ||
    fail "A training is running; its artifacts are half written. Back up when it has ended."
  [ ! -e "$file" ] || fail "$file exists; choose another with FILE=…"
  mkdir -p "$(dirname "$file")"
  [ "$(dirname "$file")" != backups ] || echo '*' >backups/.gitignore
  folder=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder of now
  trap "rm -rf '$folder'; docker compose start mlflow >/dev/null 2>&1" EXIT
  docker compose stop mlflow 2>/dev/null
  docker compose exec -T postgres pg_dump -U postgres -Fc --no-owner mlflow >"$folder/database.dump"
  docker compose run --rm --no-TTY --no-deps bucket bucket save </dev/null >"$folder/bucket.tar" 2>"$folder/errors" ||
    { cat "$folder/errors" >&2; fail "The bucket could not be read; nothing was written."; }
  rm -f "$folder/errors"
  (cd "$folder" && sha256 database.dump bucket.tar >SHA256SUMS)
  (umask 077 && tar -C "$folder" -cf "$file.part" SHA256SUMS database.dump bucket.tar)
  mv "$file.part" "$file"
  echo "$file: $(du -h "$file" | cut -f 1), runs, registry and artifacts"
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

restore() {
  local folder sql
  [ -n "${FILE:-}" ] || fail "Say which backup: make restore FILE=backups/…"
  [ -s "$FILE" ] || fail "There is no backup '$FILE'."
  folder=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  tar -C "$folder" -xf "$FILE" 2>/dev/null && (cd "$folder" && sha256 -c SHA256SUMS >/dev/null 2>&1) ||
    fail "$FILE is not a whole backup: its checksums do not fit; nothing was changed."
  confirm "This replaces all runs, models and artifacts of the stack by those in $FILE."
  preflight 5
  secrets
  prepare_images app mlflow
  docker compose stop mlflow app 2>/dev/null
  docker compose up --detach --wait --wait-timeout 120 postgres minio 2>/dev/null
  for sql in "DROP DATABASE IF EXISTS mlflow WITH (FORCE)" "CREATE DATABASE mlflow OWNER mlflow" \
    "REVOKE CONNECT ON DATABASE mlflow FROM PUBLIC"; do
    docker compose exec -T postgres psql -U postgres -qc "$sql"
  done
  docker compose exec -T postgres pg_restore -U postgres --role=mlflow --no-owner --exit-on-error -d mlflow <"$folder/database.dump"
  docker compose run --rm --no-TTY --no-deps bucket >/dev/null </dev/null
  # Mounted and not piped: boto3 seeks in what it uploads.
  chmod 644 "$folder/bucket.tar"
  docker compose run --rm --no-TTY --no-deps --volume "$folder/bucket.tar:/bucket.tar:ro" bucket bucket load </dev/null
  up
}

upgrade() {
  FILE=${FILE:-backups/before-upgrade-$(date -u +%Y%m%dT%H%M%SZ).tar}
  backup
  # The containers of an older version must be gone before the schema changes under them.
  docker compose stop mlflow 2>/dev/null
  up
  echo "Should it not work: check out the version before, then make restore FILE=$FILE"
}

case ${1:-} in
  up | train | backup | restore | upgrade) "$1" ;;
  logs) preflight 0; docker compose logs --follow --tail 100 ${SERVICE:+"$SERVICE"} ;;
  ps)
    preflight 0
    docker compose ps
    docker compose ps --quiet | xargs -r docker stats --no-stream --format 'table {{.Name}}\t{{.MemUsage}}\t{{.CPUPerc}}'
    ;;
  down) preflight 0; docker compose --profile train --profile gpu down --remove-orphans ;;
  purge)
    preflight 0
    confirm "This deletes all runs, models, artifacts and data sets of the stack, and its secrets."
    docker compose --profile train --profile gpu down --volumes --remove-orphans
    rm -rf ".secrets/${COMPOSE_PROJECT_NAME:-manasight}"
    ;;
  *) fail "Say one of: up, train, logs, ps, down, purge, backup, restore, upgrade." ;;
esac
