# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the scripts beside it
# `make backup` and `make restore`: the database and the bucket of one moment in one archive. Sourced by stack.sh.

no_training() {
  local name
  name=$(docker compose --profile train --profile gpu ps --quiet --status running trainer trainer-gpu 2>/dev/null) || name=
  [ -z "$name" ] ||
    fail "A training is running; its artifacts are half written. $1 when it has ended, or stop it with: docker stop -t 60 ${name:0:12}"
}

# MLflow alone writes to both, so it stands still meanwhile; the app continues with the model it has.
backup() {
  local parent written
  file=${FILE:-backups/manasight-$(date -u +%Y%m%dT%H%M%SZ).tar}
  preflight 0
  read_settings
  read_secrets
  running postgres || fail "The stack '$project' is not running: \`make up\` first."
  no_training "Back up"
  [ ! -e "$file" ] || fail "$file exists; choose another with FILE=…"
  parent=$(dirname -- "$file")
  mkdir -p -- "$parent" 2>/dev/null && folder=$(mktemp -d "$(cd -- "$parent" && pwd)/.backup.XXXXXX" 2>/dev/null) ||
    fail "Nothing can be written to '$parent': choose another place with FILE=…"
  file=$(cd -- "$parent" && pwd)/$(basename -- "$file")
  cleanup=end_backup advice="No backup was written; MLflow runs again."
  say "backup 1 of 3: stopping MLflow"
  steadily docker compose stop mlflow 2>/dev/null
  say "backup 2 of 3: the database"
  mkdir "$folder/work"
  written=$folder/work/database.dump progress=size_so_far
  supervise dump_database || fail "The database could not be read; nothing was written."
  say "backup 3 of 3: the artifacts"
  written=$file.part
  echo "MLFLOW_AUTH=${MLFLOW_AUTH:-none}" >"$folder/work/settings"
  # The image's user reads and writes there; other users of the machine cannot enter the folder above.
  chmod 777 "$folder/work"
  chmod 644 "$folder/work"/*
  label_for_containers "$folder/work"
  (umask 077 && : >"$file.part")
  MANASIGHT_WORK=$folder/work in_container bucket backup write - >"$file.part" 2>"$folder/errors" ||
    { cat "$folder/errors" >&2; fail "The archive could not be written; nothing was kept."; }
  progress=
  steadily docker compose start mlflow 2>/dev/null
  mv -- "$file.part" "$file"
  cleanup=:
  rm -rf "$folder"
  echo "${FILE:-${file#"$PWD"/}}: $(du -h -- "$file" | cut -f 1), runs, registry and artifacts"
}

dump_database() { docker compose exec -T postgres pg_dump -U postgres -Fc --no-owner mlflow >"$folder/work/database.dump"; }

size_so_far() { echo "$(du -h "$written" 2>/dev/null | cut -f 1) so far"; }

end_backup() {
  rm -rf "$folder" "$file.part"
  apart docker compose start mlflow >/dev/null 2>&1
}

sql() { docker compose exec -T --env PGOPTIONS='-c client_min_messages=warning' postgres psql -U postgres -q -o /dev/null -v ON_ERROR_STOP=1 "$@"; }

# Before any image is needed, so that a damaged archive is refused at once.
unpack() {
  mkdir "$folder/work" && tar -C "$folder/work" -xf "$FILE" 2>/dev/null && (cd "$folder/work" && sha256 -c SHA256SUMS >/dev/null 2>&1) &&
    [ "$(awk '{ print $2 }' "$folder/work/SHA256SUMS" | sort | tr '\n' ' ')" = "bucket.tar database.dump " ]
}

# A stack that asked for a password does not come back open: the stricter of what the archive and this stack say counts,
# unless MLFLOW_AUTH was given for this call or in .env. Archives of earlier versions do not say, but show it: MLflow's
# users are in their database.
keep_authentication() {
  local archived=
  if [ -f "$folder/work/settings" ]; then
    archived=$(sed -n 's/^MLFLOW_AUTH=//p' "$folder/work/settings")
    case $archived in basic | none) ;; *) fail "$FILE is not a whole backup: its settings do not fit; nothing was changed." ;; esac
  elif [ -z "$MLFLOW_AUTH" ] && [ ! -e "$secrets/auth" ] && LC_ALL=C grep -aq 'CREATE TABLE public\.users ' "$folder/work/database.dump"; then
    fail "$FILE does not say whether MLflow asked for a password, but it has MLflow's users: say MLFLOW_AUTH=basic or MLFLOW_AUTH=none; nothing was changed."
  fi
  if [ -z "$MLFLOW_AUTH" ] && [ "$archived" = basic ] && [ "$(cat "$secrets/auth" 2>/dev/null)" != basic ]; then
    MLFLOW_AUTH=basic
    say "MLflow asks for a password, as it did when the backup was made: user admin, password in $secrets/mlflow_admin."
  fi
}

restore() {
  local count
  [ -n "${FILE:-}" ] || fail "Say which backup: make restore FILE=backups/…"
  [ -s "$FILE" ] && [ -f "$FILE" ] || fail "There is no backup '$FILE'."
  preflight 5
  read_settings
  no_training "Restore"
  check_database "${project}_database"
  check_ports
  # Beside the backup: an engine in a virtual machine does not see every /tmp.
  folder=$(mktemp -d "$(cd -- "$(dirname -- "$FILE")" && pwd)/.restore.XXXXXX" 2>/dev/null) ||
    fail "Nothing can be unpacked beside '$FILE': copy it to a folder that you may write to."
  FILE=$(cd -- "$(dirname -- "$FILE")" && pwd)/$(basename -- "$FILE")
  cleanup=end_restore
  say "restore 1 of 4: checking $FILE"
  supervise unpack || fail "$FILE is not a whole backup: its checksums do not fit; nothing was changed."
  keep_authentication
  confirm "This replaces all runs, models and artifacts of the stack '$project' by those in $FILE."
  read_secrets
  prepare_images app mlflow
  restart=$(docker compose ps --services --status running 2>/dev/null | grep -xE 'mlflow|app' | tr '\n' ' ') || restart=
  advice="Nothing was replaced: \`make up\` continues with what was there."
  remember_state
  restoring=1
  steadily docker compose stop mlflow app 2>/dev/null
  progress=waiting_for
  supervise docker compose --progress quiet up --detach --wait --wait-timeout 120 postgres minio ||
    fail "Database or object store did not start: \`make logs SERVICE=postgres\` says why; nothing was replaced."
  say "restore 2 of 4: the database"
  progress=still_loading
  supervise load_database ||
    fail "The database in $FILE could not be read; nothing was replaced: \`make up\` continues with what was there."
  advice="The runs of $FILE are back, its artifacts are not: run the same \`make restore\` again." restart='' restoring=''
  steadily swap_databases || fail "The database could not be replaced: run the same \`make restore\` again."
  say "restore 3 of 4: the artifacts"
  # Mounted and not piped: boto3 seeks in what it uploads.
  chmod 755 "$folder/work"
  chmod 644 "$folder/work/bucket.tar"
  label_for_containers "$folder/work"
  in_container bucket >/dev/null && MANASIGHT_WORK=$folder/work in_container bucket restore load >/dev/null 2>"$folder/errors" ||
    { cat "$folder/errors" >&2; fail "$advice"; }
  progress=
  count=$(sed -n 's/^\([0-9]*\) objects$/\1/p' "$folder/errors")
  say "  ${count:-all} artifact files are back"
  advice="All is restored: \`make up\` starts the stack."
  restored=1
  say "restore 4 of 4: starting the stack"
  up
}

still_loading() { echo "still loading"; }

# Into a database of its own: the old one stays until the new one is whole.
load_database() {
  sql -c "DROP DATABASE IF EXISTS restored WITH (FORCE)" -c "CREATE DATABASE restored OWNER mlflow" \
    -c "REVOKE CONNECT ON DATABASE restored FROM PUBLIC" &&
    docker compose exec -T postgres pg_restore -U postgres --role=mlflow --no-owner --exit-on-error -d restored <"$folder/work/database.dump"
}

# At no moment is there none: the two change their names in one transaction.
swap_databases() {
  sql -c "DROP DATABASE IF EXISTS replaced WITH (FORCE)" &&
    sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('mlflow', 'restored')" &&
    sql --single-transaction -f - <<'END' && sql -c "DROP DATABASE IF EXISTS replaced WITH (FORCE)"
DO $$ BEGIN IF EXISTS (SELECT FROM pg_database WHERE datname = 'mlflow') THEN ALTER DATABASE mlflow RENAME TO replaced; END IF; END $$;
ALTER DATABASE restored RENAME TO mlflow;
END
}

end_restore() {
  rm -rf "$folder"
  if [ -n "$restart" ]; then
    # shellcheck disable=SC2086  # a list of services
    apart docker compose start $restart >/dev/null 2>&1 && advice="Nothing was replaced; the stack runs as before."
  elif [ -n "$restoring" ] && [ -n "$interrupted" ]; then
    take_back_start
  fi
}

folder='' file='' restart='' progress='' written='' restoring=''
