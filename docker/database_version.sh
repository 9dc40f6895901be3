# shellcheck shell=bash
# Refuses a database that another major version of PostgreSQL made. Sourced by docker/stack.sh.

# check_database VOLUME: the server would not start on such a database, or, since every version has a folder of its own
# in the volume, begin an empty one beside it.
check_database() {
  local volume=$1 image versions wanted found former
  docker volume inspect "$volume" >/dev/null 2>&1 || return 0
  image=$(docker compose config --images postgres) || return 0
  # Without an answer the start itself says what is wrong.
  versions=$(docker run --rm --quiet --network none --read-only --user 999:999 --volume "$volume:/database:ro" --entrypoint sh \
    "$image" -c 'postgres --version; cat /database/*/docker/PG_VERSION' 2>/dev/null) || return 0
  wanted=$(sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p' <<<"$versions")
  found=$(sed -n '/^[0-9][0-9]*$/p' <<<"$versions" | sort -n | tail -n 1)
  [ -n "$wanted" ] && [ -n "$found" ] && [ "$found" != "$wanted" ] || return 0
  # `make airgap` keeps the image that it replaces under this name.
  former=postgres:$found-airgap
  docker image inspect "$former" >/dev/null 2>&1 || former=postgres:$found
  fail "The database in the volume $volume is of PostgreSQL $found, which $image (PostgreSQL $wanted) cannot read. To keep it:
\`make up backup POSTGRES_IMAGE=$former\`, \`make purge\`, \`make restore FILE=backups/…\`. To delete it: \`make purge\`."
}
