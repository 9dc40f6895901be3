#!/usr/bin/env bash
# Makes sure that there is a Chromium for the browser tests: the system's own, Debian's, or playwright's.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  ! command -v "$name" >/dev/null || exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  cd "$(dirname "$0")/../.."
  . docker/progress.sh
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  { progress "chromium: package lists" "$log" apt-get update -q &&
    DEBIAN_FRONTEND=noninteractive progress "chromium: packages" "$log" \
      apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 chromium fonts-dejavu-core; } ||
    { tail -n 20 "$log" >&2; echo "chromium: the packages could not be installed; see the lines above" >&2; exit 1; }
else
  .venv/bin/playwright install chromium
fi
