# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the scripts beside it
# `make train`: the data, then `manasight train`, each in a container of its own. Sourced by stack.sh.

run=''        # the run's ID, by the line with which it begins: a killed container reports nothing at its end
resumable=''  # whether the training was interrupted and kept its state

# One container of the job. Killed from outside, for want of memory or by the engine, it is started again; a training that
# had begun resumes from its last checkpoint.
step() {
  local status attempt found
  for attempt in 1 2 3; do
    status=0
    in_container "$service" "$@" || status=$?
    note_run
    # Without MLflow's container, it was `make down`.
    if [ "$status" != 137 ] || [ "$attempt" = 3 ] || [ -z "$(docker compose ps --all --quiet mlflow)" ]; then break; fi
    say "The step '$1' was killed; it is started again."
    [ "$1" != train ] || [ -z "$run" ] || set -- train --resume "$run" ${PROMOTE:+--force "$PROMOTE"}
  done
  return "$status"
}

note_run() {
  local found
  found=$(sed -n 's/^run: //p' "$log" | tail -n 1)
  run=${found:-$run}
}

# Whether an earlier run made this data set. Folders of data are made as a whole or not at all.
there() { in_container "$service" data describe "$1" >/dev/null 2>&1; }

# make_folder FOLDER COMMAND...: unless it is there. Another `make train` may make the same one at the same time.
make_folder() {
  local folder=$1 status=0
  shift
  there "$folder" && return
  step "$@" || status=$?
  [ "$status" = 0 ] || there "$folder" || exit "$status"
}

# How the training of now is resumed.
resume_command() {
  local name settings=
  for name in COMPOSE_PROJECT_NAME DATA GPU PROMOTE; do
    case " $given " in *" $name "*) settings="$settings $name=$(quoted "${!name}")" ;; esac
  done
  echo "make train RESUME=$run$settings"
}

quoted() { if [[ "$1" =~ ^[A-Za-z0-9_./:-]+$ ]]; then echo "$1"; else echo "'${1//\'/\'\\\'\'}'"; fi; }

# What is said after an interruption.
end_training() {
  note_run
  if [ -z "$run" ]; then
    advice="No training had begun: run \`make train\` again."
  else
    advice="The training's state is kept; resume it with: $(resume_command)"
  fi
  # It may have been stopped from another terminal too.
  if [ -z "$interrupted" ] && [ -n "$resumable" ]; then say "$advice"; fi
  rm -f "$log"
}

check_gpu() {
  local found
  found=$(docker run --rm --network none --gpus all --entrypoint python3 "$1" -S -c '' 2>&1) ||
    fail "Docker has no GPU for containers ($(sed -n '1s/.*response from daemon: //p' <<<"$found")): install the NVIDIA driver and the NVIDIA Container Toolkit, or leave GPU=1 out."
}

# check_data IMAGE: whether the trainer's user may read all of DATA, asked in a container, since engines differ in what
# they make of owners. Prints nothing else; follows no link, as a link that leads out of the folder leads nowhere inside.
check_data() {
  local found kind path
  found=$(docker run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges --user 10001:10001 \
    --mount "type=bind,\"source=${DATA//\"/\"\"}\",target=/data,readonly" --entrypoint python3 "$1" -S -c '
import os, sys
def stop(kind, path): sys.exit(print(kind, os.path.relpath(path, "/data").encode("utf-8", "surrogateescape").decode("utf-8", "replace")))
def check(folder):
    if not os.access(folder, os.R_OK | os.X_OK): stop("closed", folder)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_symlink() and not os.path.exists(entry.path): stop("outside", entry.path)
        elif entry.is_dir(): check(entry.path) if not entry.is_symlink() else None
        elif not os.access(entry.path, os.R_OK): stop("closed", entry.path)
check("/data")
' 2>&1) || fail "Docker cannot mount '$DATA': $(tail -n 1 <<<"$found")"
  kind=${found%% *} path=$DATA/${found#* }
  path=${path%/.}
  case $kind in
    closed)
      found="chmod -R a+rX $(quoted "$DATA")"
      [ -z "$selinux" ] || found="$found; chcon -R -t container_file_t $(quoted "$DATA")"
      fail "The trainer, user 10001 in its container, may not read '$path'. Let others read the folder: $found"
      ;;
    outside)
      [ ! -e "$path" ] ||
        fail "'$path' is a link that leads out of DATA, and the trainer's container has only that folder: make a copy with the files themselves (cp -RL)."
      ;;
  esac
}

find_data() {
  [ -d "$DATA" ] || fail "There is no folder '$DATA': DATA must be a folder of labeled images."
  case $DATA in /*) ;; *) DATA=./$DATA ;; esac  # a leading dash is not an option
  DATA=$(cd "$DATA" 2>/dev/null && pwd) || fail "You may not enter '$DATA': give DATA a folder that you and others may read."
  export MANASIGHT_DATA=$DATA
}

# Whether DATA has all three splits, by the names that trainer/data/samples.py knows; `data split` adds a missing one.
is_split() {
  local found
  found=$(find "$DATA" -mindepth 1 -maxdepth 1 -type d | sed 's|.*/||' | tr '[:upper:]' '[:lower:]')
  grep -xE 'train|training' <<<"$found" >/dev/null && grep -xE 'val|valid|validation|dev' <<<"$found" >/dev/null &&
    grep -xE 'test|testing|eval|evaluation' <<<"$found" >/dev/null
}

# What needs no container is checked before the first one starts.
check_training() {
  preflight 5
  read_settings
  if [ -n "${RESUME:-}" ]; then
    [[ "$RESUME" =~ ^[A-Za-z0-9]+$ ]] || fail "RESUME must be 'latest' or the ID of a run, not '$RESUME'."
    case " $given " in
      *" EXPERIMENT "* | *" CARDS "*) fail "A resumed training keeps its experiment and its cards: leave EXPERIMENT and CARDS out." ;;
    esac
  fi
  [ -z "${PROMOTE+set}" ] || [ -n "${PROMOTE//[[:space:]]/}" ] || unset PROMOTE
  [ -z "${DATA:-}" ] || find_data
  running mlflow || fail "The stack '$project' is not running: \`make up\` first."
}

# Drawing cards takes minutes, and a mistake in ARGS would show only after them.
check_args() {
  [ -n "${ARGS:-}" ] || return 0
  # shellcheck disable=SC2086  # ARGS is a list of arguments
  in_container "$service" fit --check --config "trainer/experiments/$EXPERIMENT.yaml" --data.root "$data" $ARGS ||
    fail "Nothing was drawn or trained: correct ARGS."
}

# Sets `data` to the folder to train on, made now if no earlier training made it.
make_data() {
  say "train: data"
  if [ -z "${DATA:-}" ]; then
    make_folder "$data" data demo "$data" --count "$CARDS"
  elif is_split; then
    data=/data
  else
    # A split that an earlier run made stays: its test images must not move into training. Of another folder, or of other
    # files in it, a new one is made.
    data=/state/data/$(basename "$DATA")-$(cd "$DATA" && { pwd; find . -type f | sort; } | cksum | cut -d ' ' -f 1)
    make_folder "$data" data split /data "$data"
  fi
}

train() {
  local service=trainer data=/state/data/demo-$CARDS image status=0
  log=$(mktemp)
  cleanup=end_training
  image=$(docker inspect --format '{{.Image}}' "$(docker compose ps --quiet mlflow)")
  [ -z "${DATA:-}" ] || check_data "$image"
  [ -z "${GPU:-}" ] || { service=trainer-gpu && check_gpu "$image"; }
  read_secrets
  prepare_images "${service/trainer-gpu/trainer-cuda}"
  if [ -n "${RESUME:-}" ]; then
    [ "$RESUME" = latest ] || run=$RESUME
    set -- --resume "$RESUME"
  else
    check_args
    make_data
    set -- --config "trainer/experiments/$EXPERIMENT.yaml" --data.root "$data"
  fi
  # shellcheck disable=SC2086  # ARGS is a list of arguments
  step train "$@" ${PROMOTE:+--force "$PROMOTE"} ${ARGS:-} || status=$?
  [ "$status" != 75 ] || resumable=yes
  [ "$status" = 0 ] || exit "$status"
  echo "The run:  http://localhost:$MLFLOW_HOST_PORT/#/runs/$run?workflowType=machine_learning"
  echo "The app:  http://localhost:$APP_HOST_PORT asks for the champion every few seconds."
}
