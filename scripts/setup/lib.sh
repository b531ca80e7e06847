# shellcheck shell=bash
# Shared by the set-up scripts: where the project is, how to fail, apt. Sourced, never run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export DEBIAN_FRONTEND=noninteractive

die() { echo "setup: $*" >&2; exit 1; }
say() { echo "setup: $*"; }

# one_at_a_time: two set-ups of one work tree would tread on each other. The lock lies on the folder itself,
# so no file of it can stay behind; programs that outlive us must not inherit its descriptor (9>&-).
one_at_a_time() {
  command -v flock >/dev/null || return 0
  exec 9<"$root"
  flock --nonblock 9 || { say "another set-up is under way: waiting for it"; flock 9; }
}

# apt_install PACKAGE…: only as root on Debian or Ubuntu.
apt_install() {
  command -v apt-get >/dev/null || die "$* missing, and this is neither Debian nor Ubuntu: install it, then run make setup again"
  [ "$(id -u)" = 0 ] || die "$* missing: sudo apt-get install $*, then run make setup again"
  say "apt-get install $*"
  apt-get update -qq >/dev/null 9>&- || say "apt-get update failed: going on with the lists that are here"
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null </dev/null 9>&- ||
    die "apt-get install $* failed: see its message above"
}

# debian_mirror: the one that this host's own apt uses for Debian; DEBIAN_MIRROR overrides it.
debian_mirror() {
  local mirror=${DEBIAN_MIRROR:-}
  # shellcheck disable=SC2016  # $(REPO_URI) is apt's own placeholder
  [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    'Component: main' 2>/dev/null | grep -v security | head -n 1)
  [ -n "$mirror" ] || die "this host's apt knows no Debian mirror: set DEBIAN_MIRROR to the address of one"
  echo "$mirror"
}

# debian_keyring: what Debian's archives are verified with; Ubuntu has it in a package of the same name.
debian_keyring() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$keyring" ] || apt_install debian-archive-keyring >&2
  echo "$keyring"
}
