# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the scripts beside it
# The stack's settings, from the environment or the file .env: read through compose, so that script and compose agree,
# and checked before anything is built or started. Sourced by stack.sh.

# Every variable in compose's files.
compose_variables() { echo COMPOSE_FILE; grep -oh '\${[A-Z_]*' compose.yaml docker/settings.yaml | tr -d '${' | sort -u; }

# read_settings: exports every setting as compose reads it, the name of the project too; sets `project` and `secrets`.
read_settings() {
  local name found
  # An empty variable would hide what .env says.
  for name in $(compose_variables); do [ -n "${!name:-}" ] || unset "$name"; done
  if ! found=$(docker compose --file docker/settings.yaml --project-directory . config --format json 2>/dev/null); then
    found=$(docker compose --file docker/settings.yaml --project-directory . config 2>&1 | tail -n 1) || true
    [[ "$found" != *"invalid project name"* ]] ||
      fail "COMPOSE_PROJECT_NAME cannot be '$(sed 's/.*invalid project name "\([^"]*\)".*/\1/' <<<"$found")': use lowercase letters, digits, - and _, and begin with a letter or digit."
    fail "Compose cannot read the settings: $found."
  fi
  for name in $(sed -n 's/^  \([A-Z_]*\): .*/\1/p' docker/settings.yaml); do
    export "$name=$(sed -n "s/^ *\"$name\": \"\(.*\)\",\{0,1\}\$/\1/p" <<<"$found")"
  done
  check_settings
  # An image's name in two halves for bake, in one for compose.
  [ -n "$REGISTRY$NAMESPACE" ] || [[ "$MANASIGHT_REGISTRY" != */* ]] ||
    REGISTRY=${MANASIGHT_REGISTRY%/*} NAMESPACE=${MANASIGHT_REGISTRY##*/}
  TAG=${TAG:-$MANASIGHT_TAG}
  for name in REGISTRY NAMESPACE TAG; do [ -n "${!name}" ] || unset "$name"; done
  export MANASIGHT_REGISTRY=${REGISTRY:-docker.io}/${NAMESPACE:-manasight}
  MANASIGHT_TAG=$(image_tag)
  export MANASIGHT_TAG

  # Compose has the last word on the name, since a file in COMPOSE_FILE can set another.
  found=$(docker compose --profile train --profile gpu config 2>/dev/null) ||
    fail "Compose refuses the settings: $(docker compose --profile train --profile gpu config 2>&1 | tail -n 1)."
  project=$(sed -n 's/^name: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' <<<"$found")
  [ -n "$project" ] || fail "Compose does not say how the project is called; set COMPOSE_PROJECT_NAME."
  export COMPOSE_PROJECT_NAME=$project
  secrets=.secrets/$project
}

is_port() { [[ "$1" =~ ^[1-9][0-9]{0,4}$ ]] && [ "$1" -le 65535 ]; }

is_address() {
  local part octet='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
  [[ "$1" =~ ^$octet\.$octet\.$octet\.$octet$ ]] || { part=${1#[} && [[ "${part%]}" =~ ^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$ ]]; }
}

# A variable that switches something on: 1 or nothing.
check_switch() {
  case $(tr '[:upper:]' '[:lower:]' <<<"${!1:-}") in
    '' | 0 | no | false | off) unset "$1" ;;
    1 | yes | true | on) export "$1=1" ;;
    *) fail "$1 must be 1 or left out, not '${!1}'." ;;
  esac
}

check_settings() {
  local name
  is_port "$APP_HOST_PORT" || fail "PORT must be a number from 1 to 65535, not '$APP_HOST_PORT'."
  is_port "$MLFLOW_HOST_PORT" || fail "MLFLOW_PORT must be a number from 1 to 65535, not '$MLFLOW_HOST_PORT'."
  [ "$APP_HOST_PORT" != "$MLFLOW_HOST_PORT" ] ||
    fail "The app and MLflow cannot both use port $APP_HOST_PORT: choose another with PORT= or MLFLOW_PORT=."
  is_address "$BIND" || fail "BIND must be an IP address such as 127.0.0.1 or 0.0.0.0, not '$BIND'."
  # Compose takes an IPv6 address before a port in brackets only.
  if [[ "$BIND" == *:* && "$BIND" != \[* ]]; then BIND="[$BIND]"; fi
  case $MLFLOW_AUTH in '' | basic | none) ;; *) fail "MLFLOW_AUTH must be 'basic' or 'none', not '$MLFLOW_AUTH'." ;; esac
  for name in TAG MANASIGHT_TAG; do
    [[ "${!name}" =~ ^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$ ]] ||
      fail "$name must be an image's tag, made of letters, digits, '_', '.' and '-', not '${!name}'."
  done
  for name in REGISTRY NAMESPACE MANASIGHT_REGISTRY; do
    [[ "${!name}" =~ ^([A-Za-z0-9._:/-]*[A-Za-z0-9])?$ ]] ||
      fail "$name must be the first part of an image's name, such as docker.io/manasight, not '${!name}'."
  done
  [[ "$MANASIGHT_POLL_SECONDS" =~ ^[0-9]*\.?[0-9]+$ && "$MANASIGHT_POLL_SECONDS" =~ [1-9] ]] ||
    fail "MANASIGHT_POLL_SECONDS must be a number of seconds above 0, not '$MANASIGHT_POLL_SECONDS'."
  [[ "$TRAINER_MEMORY" =~ ^[0-9]*\.?[0-9]+\ ?[kKmMgGtT]?[bB]?$ ]] ||
    fail "TRAINER_MEMORY must be a size such as 8g or 500m, not '$TRAINER_MEMORY'."
  [ -f "trainer/experiments/$EXPERIMENT.yaml" ] ||
    fail "There is no experiment '$EXPERIMENT': EXPERIMENT must be one of $(experiments)."
  # cards/drawn/demo.py needs as many: one of each label set in each split.
  [[ "$CARDS" =~ ^[1-9][0-9]{0,6}$ ]] && [ "$CARDS" -ge 54 ] || fail "CARDS must be a number of cards, 54 at least, not '$CARDS'."
  for name in PULL GPU YES; do check_switch "$name"; done
}

experiments() {
  local path names=
  for path in trainer/experiments/*.yaml; do
    path=${path##*/}
    names=$names${names:+, }${path%.yaml}
  done
  echo "$names"
}
