#!/usr/bin/env bash
# Makes room on a GitHub runner, whose disk is mostly toolchains of others: CUDA's torch takes 20 GB to build, a runner promises 14.
set -euo pipefail
[ "${GITHUB_ACTIONS:-}" = true ] || { echo "room: this deletes toolchains of a GitHub runner, and this is none" >&2; exit 1; }
sudo rm -rf /usr/share/dotnet /usr/local/lib/android /opt/ghc /opt/hostedtoolcache/CodeQL
df -h /
