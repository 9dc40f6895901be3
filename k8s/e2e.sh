#!/usr/bin/env bash
# The whole system on the cluster that kubectl points at: apply, predict, train, see the champion arrive, back up, restore,
# lose pods, roll, drain, delete. It makes and removes the namespace manasight. The images must be reachable from the
# cluster; `make kind` makes one that has them.
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=manasight
port=${PORT:-18501}
cards=${CARDS:-180}
scratch=$(mktemp -d)
picture=app/samples/blue-mana.jpg
background=()

say() { printf '%s  %s\n' "$(date -u +%T)" "$*"; }
fail() { echo "e2e: $*" >&2; exit 1; }
k() { kubectl --namespace "$namespace" "$@"; }

# What helps after a failure; then everything that was started here ends.
finish() {
  local status=$?
  if [ "$status" != 0 ]; then
    k get pods,jobs,events --output wide 2>/dev/null | tail -n 60 >&2 || true
    k logs --selector app.kubernetes.io/part-of=manasight --all-containers --prefix --tail 30 2>/dev/null | tail -n 120 >&2 || true
  fi
  [ ${#background[@]} = 0 ] || { kill "${background[@]}"; wait "${background[@]}"; } 2>/dev/null || true
  [ -z "${drained:-}" ] || kubectl uncordon "$drained" >/dev/null 2>&1 || true
  rm -rf "$scratch"
  exit "$status"
}
trap finish EXIT

# until_true SECONDS WHAT COMMAND...: waits, and fails with WHAT.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$what did not happen in time"
    sleep 1
  done
}

# A port-forward ends with the pod that it reached, so it is started again and again; the last one ends with this script.
forward() {
  trap 'kill "$!"; wait; exit' TERM
  while true; do
    kubectl --namespace "$namespace" port-forward service/app "$port:8501" >/dev/null 2>&1 &
    wait "$!" || true
    sleep 0.2
  done
}

predict() { curl -fsS --max-time 20 --data-binary "@$picture" -H 'Content-Type: image/jpeg' "http://127.0.0.1:$port/api/predict"; }
serves() { grep -q "$1" <<<"$(curl -fsS --max-time 5 "http://127.0.0.1:$port/ready")"; }

# Clients inside the cluster, where a roll must refuse nobody: asks through the Service until it is stopped, and counts.
ask_inside() {
  k exec deployment/mlflow --container mlflow -- python3 -S -c '
import http.client, sys, time
asked = failed = 0
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    try:
        connection = http.client.HTTPConnection("app", 8501, timeout=20)
        connection.request("GET", "/ready")
        failed += connection.getresponse().status != 200
    except OSError:
        failed += 1
    asked += 1
    time.sleep(0.05)
print(asked, failed)
' "$1"
}

kubectl version >/dev/null 2>&1 || fail "kubectl reaches no cluster: start one, for example with: kind create cluster"
! kubectl get namespace "$namespace" >/dev/null 2>&1 || fail "there is a namespace $namespace already; delete it first"

say "apply"
k8s/secrets.sh >/dev/null
kubectl apply -f k8s/base/namespace.yaml
kubectl apply --dry-run=server -k k8s/overlays/local >/dev/null
kubectl apply -k k8s/overlays/local
for rollout in statefulset/postgres statefulset/minio deployment/mlflow deployment/app; do
  k rollout status "$rollout" --timeout 300s
done
say "what the cluster stores is what the manifests say"
# Not "configured" in a second apply: kubectl says that too when it sends something that changes nothing.
differs=0
kubectl diff -k k8s/overlays/local >"$scratch/diff" 2>&1 || differs=$?
[ "$differs" -le 1 ] || fail "kubectl diff failed: $(tail -n 5 "$scratch/diff")"
[ "$differs" = 0 ] || fail "the stored objects differ from the manifests: $(cat "$scratch/diff")"

say "predict through the Service"
forward & background+=($!)
until_true 60 "an answer of the app" serves starter
grep -q '"labels"' <<<"$(predict)" || fail "the app gave no labels"

say "train"
k patch configmap "$(k get configmap --output name | grep '/trainer-' | cut -d / -f 2)" --patch "{\"data\": {\"CARDS\": \"$cards\"}}"
k create job --from=cronjob/trainer run-1
until_true 600 "the training's start" sh -c "kubectl --namespace $namespace logs job/run-1 --container train | grep -q 'epoch 1/'"
say "the training's pod is deleted, and another one resumes"
k delete pod --selector job-name=run-1 --wait=false
k wait --for=condition=Complete job/run-1 --timeout 1200s
until_true 90 "the champion's arrival in the app" serves 'manasight, version 1'
grep -q '"version":"1"' <<<"$(predict)" || fail "the app does not predict with the champion"

say "back up"
k create job --from=cronjob/backup backup-1
k wait --for=condition=Complete job/backup-1 --timeout 300s
k logs job/backup-1 | grep manasight-

say "restore"
k scale deployment/mlflow --replicas 0
k wait --for=delete pod --selector app.kubernetes.io/name=mlflow --timeout 120s
k create job --from=cronjob/restore restore-1
k wait --for=condition=Complete job/restore-1 --timeout 300s
k scale deployment/mlflow --replicas 1
k rollout status deployment/mlflow --timeout 300s

say "pods are killed"
for name in postgres minio mlflow app; do
  k delete pod --selector "app.kubernetes.io/name=$name" --grace-period 0 --force >/dev/null 2>&1
done
for rollout in statefulset/postgres statefulset/minio deployment/mlflow deployment/app; do
  k rollout status "$rollout" --timeout 300s
done
until_true 120 "the champion's return" serves 'manasight, version 1'

say "the app is rolled and refuses nobody"
ask_inside 60 >"$scratch/asked" & asking=$!
sleep 2
k rollout restart deployment/app
k rollout status deployment/app --timeout 180s
wait "$asking"
read -r asked failed <"$scratch/asked"
[ "$asked" -gt 100 ] || fail "only $asked requests were made during the roll"
[ "$failed" = 0 ] || fail "$failed of $asked requests failed during the roll"
say "$asked requests, none failed"

nodes=$(kubectl get nodes --selector '!node-role.kubernetes.io/control-plane' --output name | wc -l)
if [ "$nodes" -gt 1 ]; then
  drained=$(k get pod --selector app.kubernetes.io/name=app --output jsonpath='{.items[0].spec.nodeName}')
  say "node $drained is drained"
  kubectl drain "$drained" --ignore-daemonsets --delete-emptydir-data --timeout 180s --pod-selector 'app.kubernetes.io/name in (app, mlflow)'
  k rollout status deployment/app --timeout 180s
  kubectl uncordon "$drained"
  drained=
else
  say "one worker node: nothing can be drained"
fi

say "delete"
kubectl delete -k k8s/overlays/local --ignore-not-found --timeout 300s
! kubectl get namespace "$namespace" >/dev/null 2>&1 || fail "the namespace $namespace is still there"
say "done"
