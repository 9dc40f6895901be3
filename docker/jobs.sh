# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the scripts beside it
# Runs long commands, says every few seconds that they continue, and ends them in order at Ctrl-C, `kill`, or when the
# terminal is closed. Sourced by stack.sh.

exec 8>&2  # the user's, whatever a command's own output is redirected to
say() { echo "$*" >&8 || true; }

interrupted='' child='' steady='' ticker='' container=''
cleanup=:                        # puts things back if the script ends before it is done
advice="Nothing was changed."    # said after an interruption

trap 'interrupted=Ctrl-C; exit 130' INT
trap 'interrupted="SIGTERM"; exit 143' TERM
trap 'interrupted="a closed terminal"; exit 129' HUP
trap 'interrupted="a closed pipe"; exit 141' PIPE
trap finish EXIT

finish() {
  local status=$?
  trap '' INT TERM HUP PIPE
  trap - EXIT
  set +e
  if [ -n "$interrupted" ]; then say; say "Stopping …"; fi
  end_child
  "$cleanup"
  [ -z "$interrupted" ] || say "Stopped by $interrupted. $advice"
  exit "$status"
}

# launch COMMAND...: in the background and in a process group of its own, which a terminal's Ctrl-C does not reach.
launch() {
  set -m
  "$@" </dev/null &
  set +m
}

# apart COMMAND...: to its end, whatever is pressed meanwhile.
apart() { launch "$@"; wait "$!"; }

# supervise COMMAND...: until it ends; at an interruption it is ended with all its children. What the function named by
# `progress` prints is said every ten seconds.
supervise() {
  local status=0
  launch "$@"
  child=$!
  if [ -n "${progress:-}" ]; then
    launch tick
    ticker=$!
  fi
  wait "$child" || status=$?
  child=
  end_ticker
  return "$status"
}

# steadily COMMAND...: a short one that must not be cut in half: an interruption takes effect after it.
steadily() {
  local status=0
  steady=1
  supervise "$@" || status=$?
  steady=
  return "$status"
}

tick() {
  local started=$SECONDS text
  while sleep "${PROGRESS_SECONDS:-10}" && kill -0 $$ 2>/dev/null; do
    text=$("$progress") || text=
    [ -z "$text" ] || say "  $text ($((SECONDS - started)) s)"
  done
}

end_ticker() {
  if [ -n "$ticker" ]; then { kill -KILL -- "-$ticker" && wait "$ticker"; } 2>/dev/null || true; fi
  ticker=
}

# in_container SERVICE ARGUMENTS...: a one-off container, whose output goes to the file `log` too, if that is set. At an
# interruption it gets a minute to write what it has.
in_container() {
  local status=0
  containers=$((${containers:-0} + 1))
  container=$project-$1-$$-$containers
  # Without its dependencies: they run, and asking for them would repeat bucket and migration before each step.
  supervise logged docker compose --profile train --profile gpu run --rm --no-deps --no-TTY --name "$container" "$@" || status=$?
  # The client alone may have been killed.
  [ "$status" -le 128 ] || stop_container || true
  container=
  return "$status"
}

logged() { if [ -n "${log:-}" ]; then "$@" | tee "$log"; else "$@"; fi; }

stop_container() { apart docker stop -t 60 "$container" >/dev/null 2>&1; }

child_ends_within() {
  local _
  for _ in $(seq "$(($1 * 10))"); do
    kill -0 "$child" 2>/dev/null || return 0
    sleep 0.1
  done
  return 1
}

end_child() {
  local ends=
  end_ticker
  # Compose's `run` prints the rest of the output and ends after its container.
  if [ -n "$container" ] && stop_container; then ends=10; fi
  if [ -n "$child" ] && [ -n "$steady" ]; then wait "$child"; fi
  if [ -n "$child" ] && ! { [ -n "$ends" ] && child_ends_within "$ends"; }; then
    kill -TERM -- "-$child" 2>/dev/null
    child_ends_within 10 || kill -KILL -- "-$child" 2>/dev/null
  fi
  if [ -n "$child" ]; then wait "$child" 2>/dev/null; fi
  # Created while this was going on.
  if [ -n "$container" ]; then
    stop_container
    apart docker rm --force "$container" >/dev/null 2>&1
  fi
  child='' container=''
}
