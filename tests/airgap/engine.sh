#!/usr/bin/env bash
# Gives a bare Debian machine a Docker Engine with buildx and compose, and lets it run arm64 containers; does nothing where both are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. docker/progress.sh
# The containerd image store keeps images of several platforms and runs attestations without a second builder.
setting='{"features": {"containerd-snapshotter": true}}'
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() { echo "engine: $*" >&2; exit 1; }
failed() { tail -n 20 "$log" >&2; fail "$@"; }
complete() { docker buildx version >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

# The engine's own packages come from trixie: bookworm's know neither the containerd image store nor multi-platform
# builds without a separate builder, and its qemu 7.2 hangs in NumPy. Everything they need otherwise stays as it is:
# `name/suite` takes one package from the newer suite, where `-t suite` would replace libc under running programs.
install_packages() {
  command -v apt-get >/dev/null || fail "this knows Debian only; install Docker Engine for your system, then try again"
  echo "engine: installing Docker Engine from Debian's packages"
  progress "engine: package lists" "$log" apt-get -q update || failed "apt-get update failed: is Debian's package mirror reachable?"
  # shellcheck disable=SC1091  # the machine's own file
  if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" != trixie ]; then
    local uri
    uri=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Identifier: Packages' |
      awk '$2 == "main" && $3 == "Debian" && $1 !~ /security/ { print $1; exit }')
    [ -n "$uri" ] || fail "no Debian mirror among this machine's apt sources"
    printf '%s\n' "Types: deb" "URIs: $uri" "Suites: trixie" "Components: main" \
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" >/etc/apt/sources.list.d/trixie.sources
    # Priority 100: nothing is taken from trixie unless it is asked for by name.
    printf '%s\n' "Package: *" "Pin: release n=trixie" "Pin-Priority: 100" >/etc/apt/preferences.d/trixie
    progress "engine: package lists" "$log" apt-get -q update || failed "apt-get update failed for trixie"
  fi
  # Before the packages: under systemd they start the engine themselves.
  configure_engine
  DEBIAN_FRONTEND=noninteractive progress "engine: packages" "$log" apt-get -q install -y --no-install-recommends -o Dpkg::Use-Pty=0 \
    docker.io/trixie docker-cli/trixie docker-buildx/trixie docker-compose/trixie \
    qemu-user/trixie qemu-user-binfmt/trixie iptables debootstrap e2fsprogs openssl ||
    failed "the packages could not be installed"
}

# A file that is already there is somebody's own: the check at the end says what it lacks.
configure_engine() {
  [ -e /etc/docker/daemon.json ] || { mkdir -p /etc/docker && echo "$setting" >/etc/docker/daemon.json; }
}

start_engine() {
  configure_engine
  if [ -d /run/systemd/system ]; then
    systemctl start docker || fail "systemd could not start the engine: \`journalctl -u docker\` says why"
  else
    # A new session: the engine outlives the shell, and a Ctrl-C in it.
    setsid -f dockerd >/var/log/dockerd.log 2>&1 </dev/null
  fi
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && return
    sleep 1
  done
  [ -d /run/systemd/system ] && fail "the engine did not start within a minute: \`journalctl -u docker\` says why"
  tail -n 20 /var/log/dockerd.log >&2
  fail "dockerd did not start within a minute; its log is /var/log/dockerd.log"
}

# With the flag F the kernel keeps the interpreter it opened at registration, so an upgraded qemu is registered again.
register_arm64() {
  local fs=/proc/sys/fs/binfmt_misc conf=/usr/lib/binfmt.d/qemu-aarch64.conf
  [ "$(uname -sm)" = "Linux x86_64" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    docker run --privileged --rm tonistiigi/binfmt:qemu-v9.2.2 --install arm64 >/dev/null ||
      fail "running arm64 images needs root once: run this as root"
    return
  fi
  [ -e $fs/register ] || mount -t binfmt_misc binfmt_misc $fs || fail "this kernel has no binfmt_misc: arm64 images can be built, not run"
  [ -e $conf ] || fail "$conf is missing: qemu-user-binfmt is not installed"
  [ ! -e $fs/qemu-aarch64 ] || echo -1 >$fs/qemu-aarch64
  cat $conf >$fs/register
}

if ! docker info >/dev/null 2>&1 || ! complete; then
  [ "$(id -u)" = 0 ] ||
    fail "no complete Docker Engine answers user $(id -un): run this as root (\`sudo make airgap\`), or have root add you to the group docker"
  command -v dockerd >/dev/null && complete || install_packages
  docker info >/dev/null 2>&1 || start_engine
fi
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || register_arm64
# Images of several platforms are kept by containerd's image store only. A workflow's machine is its own.
if [[ "$(docker info --format '{{.DriverStatus}}')" != *containerd.snapshotter* ]]; then
  [ "${CI:-}" = true ] || fail "the engine needs the containerd image store: put $setting into its daemon.json and restart it"
  echo "$setting" | sudo -n tee /etc/docker/daemon.json >/dev/null && sudo -n systemctl restart docker ||
    fail "the engine could not be given the containerd image store"
fi
docker version --format 'Docker Engine {{.Server.Version}}, client {{.Client.Version}}'
docker buildx version
docker compose version
