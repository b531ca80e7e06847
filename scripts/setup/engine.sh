#!/usr/bin/env bash
# A Docker engine with Compose v2: whatever answers, else the distribution's.
set -euo pipefail
# shellcheck source=scripts/setup/lib.sh
. "$(dirname "$0")/lib.sh"
compose_needed=2.20
compose_cure="install Docker's Compose v2 plugin, $compose_needed or newer, then run make setup again"
log=/var/log/dockerd.log
work=

answers() { timeout 15 docker info >/dev/null 2>&1; }

compose_fits() {
  local version
  version=$(docker compose version --short 2>/dev/null) && printf '%s\n' "$compose_needed" "${version#v}" | sort -VC
}

# forget_dead FILE PROGRAM: a pid file whose process is gone, or by now is another program, stops a start.
forget_dead() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || rm -f "$1"
}

# launch: dockerd in a session of its own, with none of our descriptors (stdout, make's pipes, the lock):
# whoever waits for the end of our output must not wait for dockerd's end.
launch() (
  for fd in /proc/"$BASHPID"/fd/*; do
    fd=${fd##*/}
    if [ "$fd" -gt 2 ] && [ "$fd" -lt 255 ]; then eval "exec $fd>&-"; fi
  done
  setsid dockerd >>"$log" 2>&1 </dev/null &
)

start_engine() {
  [ -z "${DOCKER_HOST:-}" ] || die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST"
  [ "$(id -u)" = 0 ] ||
    die "no Docker engine answers: start it (sudo systemctl start docker), or join the group docker if it runs"
  say "start the Docker engine"
  if [ -d /run/systemd/system ]; then
    log="journalctl -u docker"
    systemctl start docker || true
  elif ! pidof dockerd >/dev/null; then # else one is just starting (a dead, unreaped one is none): wait for that one
    forget_dead /run/docker.pid dockerd
    forget_dead /run/docker/containerd/containerd.pid containerd
    launch
  fi
  for _ in $(seq 60); do
    if answers; then return; fi
    sleep 0.5
  done
  die "the Docker engine does not answer after 30 s: look into $log"
}

# Debian 12 has no Compose v2: the plugin of Debian 13's package runs there too. It comes, verified by its
# signature as ever, through a private apt configuration; the host's own stays as it is.
compose_from_trixie() {
  local keyring
  keyring=$(debian_keyring)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{lists/partial,cache/archives/partial}
  touch "$work/status"
  echo "deb [signed-by=$keyring] $(debian_mirror) trixie main" >"$work/sources.list"
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::State::status=$work/status"
    -o APT::Sandbox::User=root)
  "${apt[@]}" update >/dev/null || die "apt could not read Debian 13's package list: set DEBIAN_MIRROR to a mirror that has it"
  (cd "$work" && "${apt[@]}" download docker-compose >/dev/null) || die "apt could not download docker-compose: $compose_cure"
  dpkg-deb -x "$work"/docker-compose_*.deb "$work/tree"
  install -D -m 0755 "$work/tree/usr/libexec/docker/cli-plugins/docker-compose" \
    /usr/local/lib/docker/cli-plugins/docker-compose
}

install_compose() {
  [ "$(id -u)" = 0 ] || die "docker compose is missing or too old: $compose_cure"
  say "install Compose v2"
  # shellcheck source=/dev/null
  . /etc/os-release
  case "$ID:${VERSION_ID:-}" in
    ubuntu:*) apt_install docker-compose-v2 ;;
    debian:12) compose_from_trixie ;;
    debian:*) apt_install docker-compose ;;
    *) die "docker compose is missing or too old: $compose_cure" ;;
  esac
}

# Debian 13 has the client in a package of its own.
install_engine() {
  command -v dockerd >/dev/null || apt_install docker.io iptables
  command -v docker >/dev/null || apt_install docker-cli
}

one_at_a_time
if ! answers; then
  [ -n "${DOCKER_HOST:-}" ] || install_engine
  answers || start_engine
fi
compose_fits || install_compose
# Programs that hosts, demo and tests call, each with its package.
for need in age:age curl:curl openssl:openssl pgrep:procps ssh-keygen:openssh-client \
  fincore:util-linux-extra mkfs.ext4:e2fsprogs lsblk:util-linux ip:iproute2 iptables:iptables; do
  command -v "${need%%:*}" >/dev/null || apt_install "${need##*:}"
done
compose_fits || die "docker compose does not run or is too old: $compose_cure"
say "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
