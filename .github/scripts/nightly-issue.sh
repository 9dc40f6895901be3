#!/usr/bin/env bash
# Opens an issue about a failed night, or adds to the one that is open. RUN: the run's address.
set -euo pipefail
title="The nightly build fails"
number=$(gh issue list --state open --search "in:title \"$title\"" --json number --jq '.[0].number // empty')
if [ -n "$number" ]; then
  gh issue comment "$number" --body "Again: ${RUN:?an address}"
else
  gh issue create --title "$title" --body "Images, their scan, the stack or the cluster on today's bases: ${RUN:?an address}"
fi
