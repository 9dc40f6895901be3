#!/usr/bin/env bash
# A GitHub release of the tagged images: notes, the model and its card, manifests pinned to the digests, lists of contents,
# checksums. A draft until all of it is there. Run again, a draft starts anew; what is published stays, its files are replaced. Usage: release.sh V
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1#v}
[ -n "$version" ] || { echo "release: say which: make release V=1.2.3" >&2; exit 1; }
DIST=${DIST:-dist}
python3 .github/release/version.py check "$version" >/dev/null
model=models/starter
[ -f models/published/model.onnx ] && model=models/published
# GitHub's own default would hand "Latest" to a patch of an older series.
tags=$(python3 .github/release/version.py tags "refs/tags/v$version")
latest=false
! grep -qx latest <<<"$tags" || latest=true
rm -rf "$DIST/release" "$DIST/k8s" "$DIST/docker"
mkdir -p "$DIST/release"
python3 .github/release/version.py pin "$DIST" "$DIST/k8s"
# k8s/secrets.sh makes the local overlay's passwords with it.
mkdir "$DIST/docker"
cp docker/secrets.sh "$DIST/docker/"
python3 .github/release/pack.py "$DIST/release/manasight-k8s-$version.tar.gz" "$(git log -1 --format=%ct)" "$DIST/docker" "$DIST/k8s"
cp "$model/model.onnx" "$DIST/release/"
cp "$model/README.md" "$DIST/release/model-card.md"
for list in "$DIST"/*.spdx.json; do [ ! -e "$list" ] || cp "$list" "$DIST/release/"; done
(cd "$DIST/release" && python3 -c 'import hashlib, pathlib
for path in sorted(pathlib.Path().iterdir()):
    print(hashlib.sha256(path.read_bytes()).hexdigest(), "", path.name)' >"../SHA256SUMS" && mv ../SHA256SUMS .)
python3 .github/release/notes.py "$version" "$DIST" --model "$model/model.onnx" >"$DIST/notes.md"
[ -z "${DRY_RUN:-}" ] || exit 0
pre=()
case $version in *-*) pre=(--prerelease) ;; esac
draft=$(gh release view "v$version" --json isDraft --jq .isDraft 2>/dev/null) || draft=
if [ "$draft" = false ]; then
  gh release upload "v$version" "$DIST"/release/* --clobber
  exec gh release edit "v$version" --notes-file "$DIST/notes.md"
fi
[ -z "$draft" ] || gh release delete "v$version" --yes
gh release create "v$version" "$DIST"/release/* --verify-tag --draft ${pre[@]+"${pre[@]}"} --title "$version" --notes-file "$DIST/notes.md"
gh release edit "v$version" --draft=false --latest="$latest"
