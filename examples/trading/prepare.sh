#!/bin/sh
# What the stack needs before its first start: random passwords, and the app's packages.
# Runs again at no cost. Passwords that exist stay. PYTHON names another Python whose pip fetches.
set -eu
cd "$(dirname "$0")"

# For their owner alone, and bind-mounted as they are: every container reads them while it is root.
mkdir -p secrets
chmod 0700 secrets
for name in postgres_password redis_password; do
  if [ ! -s "secrets/$name" ]; then
    new=$(mktemp "secrets/$name.XXXXXX")
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$new"
    # A link fails where another run was first: one password, whoever wins.
    ln "$new" "secrets/$name" 2>/dev/null || [ -s "secrets/$name" ]
    rm -f "$new"
  fi
done

# The same for mounted files, where a strict umask made the checkout.
chmod a+rX postgres postgres/* redis redis/*

# The image is built from these wheels alone: no network is needed in the build.
case $(uname -m) in arm64 | aarch64) arch=aarch64 ;; *) arch=x86_64 ;; esac
if ! cmp -s app/requirements.txt app/wheels/requirements.txt; then
  new=$(mktemp -d app/wheels.XXXXXX)
  trap 'rm -rf "$new"' EXIT
  if "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --only-binary=:all: \
    --implementation cp --python-version 3.13 \
    --platform "manylinux_2_28_$arch" --platform "manylinux_2_17_$arch" \
    --platform "manylinux2014_$arch" \
    --dest "$new" --requirement app/requirements.txt; then
    cp app/requirements.txt "$new/"
    chmod -R a+rX "$new"
    rm -rf app/wheels
    # Where another run has put its own there meanwhile, that one serves as well.
    [ -e app/wheels ] || mv "$new" app/wheels
  else
    echo "prepare.sh: no wheels fetched; the build will ask PyPI itself" >&2
  fi
fi
