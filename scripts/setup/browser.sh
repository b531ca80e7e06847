#!/usr/bin/env bash
# A browser, by which tests look at the status page: whatever is there, else Debian's chromium.
set -euo pipefail
# shellcheck source=scripts/setup/lib.sh
. "$(dirname "$0")/lib.sh"

one_at_a_time
for program in chromium chromium-browser google-chrome; do
  if command -v "$program" >/dev/null; then
    say "browser $("$program" --version 2>/dev/null)"
    exit
  fi
done
# shellcheck source=/dev/null
. /etc/os-release
if [ "$ID" = ubuntu ]; then # its package is a snap's, which needs a system that was booted
  say "no browser, and Ubuntu has none for apt: the tests that look at the status page are skipped (or snap install chromium)"
else
  apt_install chromium
fi
