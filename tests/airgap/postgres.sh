#!/bin/sh
# First start and start of PostgreSQL from Debian's packages: the settings of the published postgres image that compose.yaml uses.
set -eu
case ${1:-postgres} in postgres) ;; *) exec "$@" ;; esac
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  initdb --username="${POSTGRES_USER:-postgres}" --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 \
    --locale-provider=builtin --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  # Only the socket while the first tables are made: nobody meets a half-made database.
  pg_ctl -w -o "-c listen_addresses=''" start
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [ ! -e "$script" ] || psql -v ON_ERROR_STOP=1 --no-psqlrc -U "${POSTGRES_USER:-postgres}" -d postgres -f "$script"
  done
  pg_ctl -w -m fast stop
fi
exec "$@" -c listen_addresses='*'
