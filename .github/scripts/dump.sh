#!/usr/bin/env bash
# Leaves in dump/ what helps to understand a failed run: containers or pods, their state and their last words.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
mkdir -p dump
docker ps --all >dump/containers.txt 2>&1
docker ps --all --format '{{.Names}}' | while read -r name; do
  docker inspect "$name" --format '{{json .State}}' >"dump/$name.state.json" 2>&1
  docker logs --tail 500 "$name" >"dump/$name.log" 2>&1
done
df -h >dump/disk.txt
free -m >dump/memory.txt
if kubectl version --request-timeout=5s >/dev/null 2>&1; then
  kubectl get all,pvc,events --all-namespaces --output wide >dump/cluster.txt 2>&1
  kubectl describe pods --all-namespaces >dump/pods.txt 2>&1
  kubectl get pods --all-namespaces --no-headers | while read -r space pod _; do
    kubectl logs --namespace "$space" "$pod" --all-containers --tail 500 >"dump/$space-$pod.log" 2>&1
  done
fi
exit 0
