# shellcheck shell=bash
# Short progress lines for long work, with or without a terminal. Sourced, not run.

# progress LABEL LOG COMMAND [ARGUMENT...]: runs the command with its output in LOG. Every PROGRESS_SECONDS (10) a line
# on stderr says how long it has been running and what it is doing.
progress() {
  local label=$1 log=$2 status=0
  shift 2
  : >"$log"
  # The command stays in the foreground, so that Ctrl-C reaches it. The reporter ends when descriptor 7 closes, also
  # because this script was killed.
  exec 7> >(report_progress "$label" "$log")
  "$@" >"$log" 2>&1 7>&- || status=$?
  exec 7>&-
  return "$status"
}

report_progress() {
  local start=$SECONDS before=$SECONDS interval=${PROGRESS_SECONDS:-10}
  # bash 3.2 has one status for the end of input and for a timeout; only the latter takes the whole interval.
  while read -r -t "$interval" || [ $((SECONDS - before)) -ge "$interval" ]; do
    before=$SECONDS
    echo "$1: $((SECONDS - start)) s, $(current_step "$2")" >&2
  done
}

# What a log says is being done: its last line; of a BuildKit log the steps under way, each with its last output.
current_step() {
  tr '\r' '\n' <"$1" | awk '
    NF { last = $0 }
    /^#[1-9][0-9]* / {
      id = $1
      text = substr($0, length(id) + 2)
      if (text ~ /^(DONE|CACHED|ERROR|CANCELED)/) {
        if (!(id in ended)) finished++
        ended[id] = 1
      } else if (!(id in step)) {
        gsub(/--mount=[^ ]* /, "", text)
        gsub(/ +/, " ", text)
        step[id] = substr(text, 1, 70)
        order[++count] = id
      } else if (index(text, step[id]) != 1 && text != "...") said[id] = ": " substr(text, 1, 50)
    }
    END {
      if (!count) { print last == "" ? "no output yet" : substr(last, 1, 120); exit }
      for (i = count; i > 0 && shown < 2; i--) {
        id = order[i]
        if (!(id in ended)) { under_way = under_way "; " step[id] said[id]; shown++ }
      }
      printf "%d steps done%s\n", finished, under_way
    }'
}
