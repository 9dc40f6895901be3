# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the scripts beside it
# `make train`: data, training, evaluation, export and promotion, each a container of its own. Sourced by stack.sh.

run='' version=''      # of what the steps made, by their output
stage=data resumable=''  # how far it has come; whether a training was stopped and kept its state

# One step of the job. Killed from outside, for want of memory or by the engine, it is done again; a training that had
# begun goes on from its last checkpoint.
step() {
  local status attempt found
  for attempt in 1 2 3; do
    status=0
    in_container "$service" "$@" || status=$?
    note_results
    # Without MLflow's container, it was `make down`.
    if [ "$status" != 137 ] || [ "$attempt" = 3 ] || [ -z "$(docker compose ps --all --quiet mlflow)" ]; then break; fi
    say "The step '$1' was killed; it is done again."
    [ "$1" != fit ] || [ -z "$run" ] || set -- fit --resume "$run"
  done
  return "$status"
}

note_results() {
  local found
  found=$(sed -n 's/^run: //p' "$log" | tail -n 1)
  run=${found:-$run}
  found=$(sed -n 's/^registered: .* version //p' "$log" | tail -n 1)
  version=${found:-$version}
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

# What is said after an interruption depends on how far the training has come.
end_training() {
  note_results
  if [ -z "$run" ] || [ "$stage" = data ]; then
    advice="No training had begun: run \`make train\` again."
  elif [ "$stage" = fit ]; then
    advice="The training's state is kept; resume it with: $(resume_command)"
  else
    advice="The model is trained; evaluate, export and promote it with: $(resume_command)"
  fi
  # It may have been stopped from another terminal too.
  if [ -z "$interrupted" ] && [ -n "$resumable" ]; then say "$advice"; fi
  rm -f "$log"
}

# A value of `--data.separator` in ARGS.
separator() { sed -n 's/.*--data\.separator[= ]\{1,\}\([^ ]*\).*/\1/p' <<<"${ARGS:-}"; }

# Training takes minutes, and a model that knows other labels than the champion is not promoted by itself.
check_labels() {
  local apart=
  [ -z "${PROMOTE:-}" ] || return 0
  apart=$(separator)
  in_container "$service" promote --check --data "$1" ${apart:+--separator "$apart"} ||
    fail "Nothing was trained. To make a model with other labels the champion, give a reason: make train … PROMOTE='new labels'"
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
  case $DATA in /*) ;; *) DATA=./$DATA ;; esac  # a leading dash is no option
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

# Sets `data` to the folder to train on, made now if no earlier training made it.
make_data() {
  say "train 1 of 5: data"
  if [ -z "${DATA:-}" ]; then
    make_folder "$data" data demo "$data" --count "$CARDS"
    check_labels "$data"
    return
  fi
  check_labels /data
  if is_split; then
    data=/data
  else
    # A split that an earlier run made stays: its test images must not move into training. Of another folder, or of other
    # files in it, a new one is made.
    data=/state/data/$(basename "$DATA")-$(cd "$DATA" && { pwd; find . -type f | sort; } | cksum | cut -d ' ' -f 1)
    make_folder "$data" data split /data "$data"
  fi
}

fit() {
  local status=0
  step fit "$@" || status=$?
  [ "$status" != 75 ] || resumable=yes
  # Resumed after its last epoch, by a command that was stopped in a later step.
  [ -z "${RESUME:-}" ] || ! grep -q 'has finished' "$log" || return 0
  [ "$status" = 0 ] || exit "$status"
}

train() {
  local service=trainer data=/state/data/demo-$CARDS image
  log=$(mktemp)
  cleanup=end_training
  image=$(docker inspect --format '{{.Image}}' "$(docker compose ps --quiet mlflow)")
  [ -z "${DATA:-}" ] || check_data "$image"
  [ -z "${GPU:-}" ] || { service=trainer-gpu && check_gpu "$image"; }
  read_secrets
  prepare_images "${service/trainer-gpu/trainer-cuda}"
  if [ -n "${RESUME:-}" ]; then
    stage=fit
    [ "$RESUME" = latest ] || run=$RESUME
    say "train 2 of 5: fit, resumed"
    # shellcheck disable=SC2086  # ARGS is a list of arguments
    fit --resume "$RESUME" ${ARGS:-}
  else
    make_data
    stage=fit
    say "train 2 of 5: fit"
    # shellcheck disable=SC2086
    fit --config "trainer/experiments/$EXPERIMENT.yaml" --data.root "$data" ${ARGS:-}
  fi
  stage=promote
  # By name: another `make train` may have made one since.
  set -- ${run:+--run "$run"}
  say "train 3 of 5: evaluate"
  step evaluate "$@"
  say "train 4 of 5: export"
  step export "$@"
  say "train 5 of 5: promote"
  step promote ${version:+--version "$version"} ${PROMOTE:+--force "$PROMOTE"}
  echo "The champion is at http://localhost:$MLFLOW_HOST_PORT; the app at http://localhost:$APP_HOST_PORT asks for it every few seconds."
}
