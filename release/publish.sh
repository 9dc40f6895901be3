#!/usr/bin/env bash
# One step of publishing. An image gets its tags last: a run that dies on the way leaves none and can be repeated.
#   publish.sh build TARGET PLATFORM   build and push by digest, with no tag
#   publish.sh smoke TARGET PLATFORM   run that digest on this machine
#   publish.sh join TARGET             one image of both platforms, as :sha-REVISION-RUN; refused before both have run
#   publish.sh copy TARGET             the same digest in COPY_TO (a registry and namespace)
#   publish.sh sign TARGET             keyless signature of the digest, in both registries
#   publish.sh verify TARGET           what docs/verify.md tells users to do
#   publish.sh tag REF                 the tags of a git reference, for every joined target, in both registries
# REGISTRY, NAMESPACE and COPY_TO say where; DIST holds what steps tell each other (default: dist).
set -euo pipefail
cd "$(dirname "$0")/.."
export REGISTRY=${REGISTRY:-docker.io} NAMESPACE=${NAMESPACE:-manasight}
DIST=${DIST:-dist}
REVISION=${REVISION:-$(git rev-parse HEAD)}
PLATFORMS_WANTED="linux/amd64 linux/arm64"
# Two runs of one commit (its tag's and main's) join images of their own.
JOINED=sha-$REVISION${GITHUB_RUN_ID:+-$GITHUB_RUN_ID}
mkdir -p "$DIST"

fail() { echo "publish: $*" >&2; exit 1; }
name() { echo "$REGISTRY/$NAMESPACE/$1"; }
# The files by which steps tell each other of a target on a platform.
file() { echo "$DIST/$1-${2#linux/}.$3"; }
digest_of() { docker buildx imagetools inspect --raw "$1" | python3 -c 'import hashlib, sys; print("sha256:" + hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }
joined() { cat "$DIST/$1.digest" 2>/dev/null || fail "'$1' is not joined yet"; }
# Gives an image another name; the digest must not change.
retag() { # FROM@DIGEST TO
  docker buildx imagetools create --progress=quiet --tag "$2" "$1" >/dev/null
  [ "$(digest_of "$2")" = "${1#*@}" ] || fail "$2 is not ${1#*@}"
}

build() {
  local target=$1 platform=$2 metadata to
  # Left by another commit, it would be joined with this one.
  if [ "$(cat "$DIST/revision" 2>/dev/null)" != "$REVISION" ]; then
    rm -f "$DIST"/*.{built,smoked,digest,metadata.json,spdx.json}
    echo "$REVISION" >"$DIST/revision"
  fi
  metadata=$(file "$target" "$platform" metadata.json)
  rm -f "$(file "$target" "$platform" built)" "$(file "$target" "$platform" smoked)"
  # The engine's own builder cannot push without a tag: it gets one that names commit and platform, and never moves.
  if grep -qx 'Driver: *docker' <<<"$(docker buildx inspect)"; then
    to=(--set "$target.tags=$(name "$target"):sha-$REVISION-${platform#linux/}" --set "$target.output=type=image,push=true,oci-mediatypes=true")
  else
    to=(--set "$target.tags=$(name "$target")" --set "$target.output=type=image,push=true,push-by-digest=true,name-canonical=true,oci-mediatypes=true")
  fi
  PLATFORMS=$platform docker/images.sh "$target" --metadata-file "$metadata" "${to[@]}" \
    ${CACHE_READ_ONLY:+--set "$target.cache-to="}
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]]["containerimage.digest"])' "$metadata" "$target" \
    >"$(file "$target" "$platform" built)"
  echo "$target $platform: $(cat "$(file "$target" "$platform" built)")"
}

smoke() {
  local built smoked
  built=$(file "$1" "$2" built) smoked=$(file "$1" "$2" smoked)
  [ -s "$built" ] || fail "'$1' was not built for $2"
  docker pull --quiet --platform "$2" "$(name "$1")@$(cat "$built")" >/dev/null
  python3 release/smoke.py "$1" "$(name "$1")@$(cat "$built")" "$2" ${SMOKE_SECONDS:+--seconds "$SMOKE_SECONDS"}
  cp "$built" "$smoked.new" && mv "$smoked.new" "$smoked"
}

join() {
  local sources=() platform smoked tag
  for platform in $PLATFORMS_WANTED; do
    smoked=$(file "$1" "$platform" smoked)
    [ -s "$smoked" ] || fail "'$1' has not run on $platform; nothing is joined"
    sources+=("$(name "$1")@$(cat "$smoked")")
  done
  tag=$(name "$1"):$JOINED
  docker buildx imagetools create --progress=quiet --tag "$tag" "${sources[@]}" >/dev/null
  docker buildx imagetools inspect --raw "$tag" | python3 -c '
import json, sys
manifests = json.load(sys.stdin)["manifests"]
platforms = sorted("{os}/{architecture}".format(**m["platform"]) for m in manifests if m["platform"]["os"] != "unknown")
if platforms != sys.argv[1].split():
    sys.exit(f"publish: the joined image is for {platforms}")
attested = {m["annotations"]["vnd.docker.reference.digest"] for m in manifests if "annotations" in m and "vnd.docker.reference.digest" in m["annotations"]}
bare = [m["digest"] for m in manifests if m["platform"]["os"] != "unknown" and m["digest"] not in attested]
if bare:
    sys.exit(f"publish: no attestation for {bare}")
' "$PLATFORMS_WANTED"
  digest_of "$tag" >"$DIST/$1.digest"
  echo "$1: $(cat "$DIST/$1.digest")"
}

copy() {
  retag "$(name "$1")@$(joined "$1")" "${COPY_TO:?a registry and namespace}/$1:$JOINED"
  echo "$1: the same digest in $COPY_TO"
}

# Every name under which a target's digest was published.
published() { for place in "$REGISTRY/$NAMESPACE" ${COPY_TO:-}; do echo "$place/$1@$(joined "$1")"; done; }

sign() { published "$1" | while read -r image; do cosign sign --yes "$image"; done; }

verify() {
  published "$1" | while read -r image; do
    cosign verify "$image" --certificate-oidc-issuer https://token.actions.githubusercontent.com \
      --certificate-identity-regexp "^https://github.com/$NAMESPACE/manasight/\.github/workflows/publish\.yml@refs/(tags/v[0-9][0-9A-Za-z.-]*|heads/main)\$" >/dev/null
    for platform in $PLATFORMS_WANTED; do
      provenance=$(docker buildx imagetools inspect "$image" --format "{{ json (index .Provenance \"$platform\").SLSA }}")
      grep -q '"build' <<<"$provenance" \
        || fail "$image says nothing of its provenance on $platform"
      docker buildx imagetools inspect "$image" --format "{{ json (index .SBOM \"$platform\").SPDX }}" >"$DIST/$1-${platform#linux/}.spdx.json"
      grep -q spdxVersion "$DIST/$1-${platform#linux/}.spdx.json" || fail "$image does not list its contents on $platform"
    done
  done
  echo "$1: signature, provenance and contents verified"
}

tag() {
  local tags targets=() target tag place edge
  tags=$(python3 release/tags.py tags "$1")
  for target in "$DIST"/*.digest; do targets+=("$(basename "$target" .digest)"); done
  [ -s "$DIST/${targets[0]}.digest" ] || fail "nothing is joined in '$DIST'"
  # A release's number never moves. Built again, the same commit may have another digest: its bases have changed.
  case $1 in
    refs/tags/*)
      for target in "${targets[@]}"; do
        for place in "$REGISTRY/$NAMESPACE" ${COPY_TO:-}; do
          tag=$place/$target:$(head -n 1 <<<"$tags")
          ! docker buildx imagetools inspect --raw "$tag" >/dev/null 2>&1 || [ "$(digest_of "$tag")" = "$(joined "$target")" ] \
            || fail "$tag is another image already, and a release's number never moves: release a new version"
        done
      done ;;
    # A repeated old run does not take `edge` back.
    refs/heads/main)
      for target in "${targets[@]}"; do
        edge=$(docker buildx imagetools inspect --format \
          '{{ index (index .Image "linux/amd64").Config.Labels "org.opencontainers.image.revision" }}' "$(name "$target"):edge" 2>/dev/null) || continue
        if [ "$edge" != "$REVISION" ] && git merge-base --is-ancestor "$REVISION" "$edge" 2>/dev/null; then
          echo "'edge' stays at a newer commit, $edge"
          return
        fi
      done ;;
  esac
  # Tag by tag, not image by image: the moving ones come last, when every image has the one that never moves.
  for tag in $tags; do
    for target in "${targets[@]}"; do
      for place in "$REGISTRY/$NAMESPACE" ${COPY_TO:-}; do
        retag "$place/$target@$(joined "$target")" "$place/$target:$tag"
      done
    done
    echo "tagged ${targets[*]}: $tag"
  done
}

case ${1:-} in
  build | smoke) [ $# = 3 ] || fail "usage: publish.sh $1 TARGET PLATFORM" ;;
  join | copy | sign | verify) [ $# = 2 ] || fail "usage: publish.sh $1 TARGET" ;;
  tag) [ $# = 2 ] || fail "usage: publish.sh tag REF" ;;
  *) fail "the steps are build, smoke, join, copy, sign, verify and tag" ;;
esac
"$@"
