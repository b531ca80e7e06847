#!/usr/bin/env bash
# .venv with the pinned packages. The stamp is written last, so a cut-off install never counts as done.
set -euo pipefail
# shellcheck source=scripts/setup/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"
# make puts .venv/bin first: a venv must not be built by the python of the one that it replaces.
PATH=${PATH//"$root/.venv/bin:"/}

# works PYTHON: prints the real program behind a name, a shim or a virtual environment, if it is new enough.
works() {
  "$1" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys._base_executable)' 2>/dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    works "$PYTHON" || die "PYTHON=$PYTHON is no working Python 3.11 or newer: name another, or leave PYTHON unset"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3; do
    if works "$candidate"; then return; fi
  done
  die "no working Python 3.11 or newer: install one, or name it: make setup PYTHON=/path/to/python3"
}

# Debian keeps ensurepip, without which no venv has a pip, in a package of its own.
need_ensurepip() {
  "$python" -c 'import ensurepip' 2>/dev/null && return
  apt_install python3-venv
  "$python" -c 'import ensurepip' 2>/dev/null || die "$python has no ensurepip: install the venv package that belongs to it"
}

one_at_a_time
python=$(find_python)
# The folder is part of the stamp: scripts in .venv/bin hold its absolute path.
stamp=$({ echo "$root $python"; "$python" --version; cat requirements*.txt; } | sha256sum)
if [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c '' 2>/dev/null; then
  say "python packages are there"
  exit
fi
need_ensurepip
say "python packages into .venv by $("$python" --version) (a minute or two)"
rm -f .venv/stamp
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -r requirements-dev.txt -c requirements-lock.txt ||
  die "pip could not install requirements-dev.txt: see its message above; is the package index reachable?"
echo "$stamp" >.venv/stamp
