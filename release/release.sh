#!/usr/bin/env bash
# A GitHub release of the tagged images: GitHub's own notes below the images and their digests, the model and its card,
# manifests pinned to the digests, lists of contents, checksums. A draft until all of it is there; a repeated run replaces
# a draft, and only the files of a published release. Usage: release.sh V
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1#v}
. docker/preflight.sh
[ -n "$version" ] || fail "Say which: make release V=1.2.3"
DIST=${DIST:-dist} image=${COPY_TO:-docker.io/manasight}
python3 release/tags.py check "refs/tags/v$version"
# GitHub's default would give "Latest" to a patch of an older series.
tags=$(python3 release/tags.py tags "refs/tags/v$version")
latest=false
! grep -qx latest <<<"$tags" || latest=true
rm -rf "$DIST/release"
mkdir -p "$DIST/release"

# The manifests with our images named by digest; secrets.sh makes the local overlay's passwords. From git, so that no
# password of this machine is in it, and equal for equal commits.
pinned=$(awk -v dist="$DIST" '
  /newName:/ { name = $NF; sub(".*/", "", name) }
  /newName:/ { ours = /manasight/ }
  ours && /newTag:/ { if ((getline digest < (dist "/" name ".digest")) < 1) exit 1; sub("newTag:.*", "digest: " digest) }
  { print }' k8s/images/kustomization.yaml) || fail "An image of the manifests has no digest in '$DIST': join all of them first"
git archive --format=tar.gz --output="$DIST/release/manasight-k8s-$version.tar.gz" \
  --add-virtual-file="k8s/images/kustomization.yaml:$pinned" HEAD docker/secrets.sh k8s \
  ':!k8s/images/kustomization.yaml' ':!k8s/checkov.yaml' ':!k8s/*.mk' ':!k8s/validate.sh' ':!k8s/e2e.sh' ':!k8s/kind.sh'
cp models/starter/model.onnx "$DIST/release/"
cp models/starter/README.md "$DIST/release/model-card.md"
for list in "$DIST"/*.spdx.json; do [ ! -e "$list" ] || cp "$list" "$DIST/release/"; done
(cd "$DIST/release" && sha256 -- * >"../SHA256SUMS" && mv ../SHA256SUMS .)

cat >"$DIST/notes.md" <<END
\`\`\`sh
docker run --rm -p 8501:8501 $image/app:$version
\`\`\`

Every image is for linux/amd64 and linux/arm64 and ran on a machine of its own architecture before it got its tag.
[How to check signatures, provenance and contents](https://github.com/${NAMESPACE:-manasight}/manasight/blob/v$version/docs/verify.md).

| image | digest |
|---|---|
$(for path in "$DIST"/*.digest; do echo "| \`$image/$(basename "$path" .digest):$version\` | \`$(cat "$path")\` |"; done)
END
[ -z "${DRY_RUN:-}" ] || exit 0
pre=()
case $version in *-*) pre=(--prerelease) ;; esac
draft=$(gh release view "v$version" --json isDraft --jq .isDraft 2>/dev/null) || draft=
if [ "$draft" = false ]; then
  exec gh release upload "v$version" "$DIST"/release/* --clobber
fi
[ -z "$draft" ] || gh release delete "v$version" --yes
gh release create "v$version" "$DIST"/release/* --verify-tag --draft ${pre[@]+"${pre[@]}"} --title "$version" \
  --notes-file "$DIST/notes.md" --generate-notes
gh release edit "v$version" --draft=false --latest="$latest"
