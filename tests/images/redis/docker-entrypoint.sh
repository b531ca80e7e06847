#!/bin/sh
# Stand-in for the entrypoint of the official redis and valkey images: the documented contract, written anew.
set -e
name=redis
if [ -x /usr/bin/valkey-server ]; then name=valkey; fi

case ${1:-} in -* | *.conf) set -- "$name-server" "$@" ;; esac

# protected ARGUMENT…: does the caller, or the configuration file that the caller names, decide on protected mode?
protected() {
  case " $* " in *" --protected-mode "*) return 0 ;; esac
  [ -f "${2:-}" ] && grep -qi '^[[:space:]]*protected-mode[[:space:]]' "$2"
}

if [ "${1:-}" = "$name-server" ]; then
  if [ "$(id -u)" = 0 ]; then
    find . \! -user "$name" -exec chown "$name" '{}' +
    # From 8 on the official redis image gives its capabilities up for good, which needs one: SETPCAP.
    case $("$name-server" --version) in
      *Valkey* | *' v='[1-7].*) exec setpriv --reuid="$name" --regid="$name" --clear-groups "$0" "$@" ;;
    esac
    exec setpriv --reuid="$name" --regid="$name" --clear-groups --nnp --inh-caps=-all --ambient-caps=-all \
      --bounding-set=-all "$0" "$@"
  fi
  # What the server writes is for the server alone, unless the caller chose another mask.
  if [ "$(umask)" = 0022 ]; then umask 0077; fi
  # The official build has protected mode off unless it is asked for; Debian's has it on.
  case ${2:-} in
    -v | --version | -h | --help | --test-memory | --check-system) ;;
    *) protected "$@" || set -- "$@" --protected-mode no ;;
  esac
fi
# shellcheck disable=SC2086  # words
exec "$@" ${VALKEY_EXTRA_FLAGS:-}
