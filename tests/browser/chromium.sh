#!/usr/bin/env bash
# Makes sure that there is a Chromium for the browser tests: the system's own, Debian's, or playwright's.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  ! command -v "$name" >/dev/null || exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
else
  .venv/bin/playwright install chromium
fi
