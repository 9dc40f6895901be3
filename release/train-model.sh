#!/usr/bin/env bash
# Trains a model on real cards and leaves it, if it reaches the bar, in models/published: model.onnx, its card, and the
# prediction that images are compared with. QUERY: options of `manasight data scryfall`; BAR: macro F1 to reach.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
out=models/published
export MANASIGHT_HOME=${MANASIGHT_HOME:-.manasight/train-model}
cards=$MANASIGHT_HOME/cards splits=$MANASIGHT_HOME/splits
# Options are words: --set m19 --set m20.
read -ra query <<<"${QUERY:?options of manasight data scryfall}"
# Asked before hours of training, not after them.
[[ ${BAR:-} =~ ^(0(\.[0-9]+)?|1(\.0+)?)$ ]] || { echo "train-model: BAR is '${BAR:-}'; give the macro F1 to reach, such as 0.98" >&2; exit 1; }
# The card says what the cards were fetched with.
if [ -d "$cards" ] && [ "$(cat "$MANASIGHT_HOME/query" 2>/dev/null)" != "$QUERY" ]; then
  echo "train-model: $cards was fetched with other options; remove $MANASIGHT_HOME to start over" >&2
  exit 1
fi
mkdir -p "$MANASIGHT_HOME"
echo "$QUERY" >"$MANASIGHT_HOME/query"
[ -d "$splits" ] || { "$bin/manasight" data scryfall "$cards" "${query[@]}"; "$bin/manasight" data split "$cards" "$splits"; }
"$bin/manasight" experiments --data "$splits" --baseline cards/baseline.yaml
"$bin/python" release/model_card.py -- "$BAR" "$QUERY" cards/model_card.md "$out"
