#!/usr/bin/env bash
# Stand-in for the entrypoint of the official postgres image: the documented contract, written anew.
set -Eeuo pipefail

# setting NAME [DEFAULT]: the variable, or what the file that NAME_FILE names holds.
setting() {
  local name=$1 file=${1}_FILE value=${2:-}
  if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
    echo "error: both $name and $file are set: set one of them" >&2
    exit 1
  fi
  if [ -n "${!name:-}" ]; then value=${!name}; elif [ -n "${!file:-}" ]; then value=$(<"${!file}"); fi
  export "$name=$value"
  unset "$file"
}

settings() {
  setting POSTGRES_PASSWORD
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_INITDB_ARGS
  : "${POSTGRES_HOST_AUTH_METHOD:=}"
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    echo "error: the database is not initialized and has no superuser password: set POSTGRES_PASSWORD to a non-empty value" >&2
    exit 1
  fi
}

# initdb wants a name for its user; `docker run --user 1234` has none.
name_the_user() {
  getent passwd "$(id -u)" >/dev/null && return
  local library
  for library in /usr/lib/*/libnss_wrapper.so; do
    NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
    export LD_PRELOAD=$library NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
    printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$(id -u)" "$(id -g)" "$PGDATA" >"$NSS_WRAPPER_PASSWD"
    printf 'postgres:x:%s:\n' "$(id -g)" >"$NSS_WRAPPER_GROUP"
  done
}

forget_the_name() {
  if [ -n "${NSS_WRAPPER_PASSWD:-}" ]; then
    rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
    unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
  fi
}

make_cluster() {
  name_the_user
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then set -- --waldir "$POSTGRES_INITDB_WALDIR"; else set --; fi
  # The arguments are written for a shell, quotes and all.
  eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") "$@" '"$POSTGRES_INITDB_ARGS"
  forget_the_name
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
}

# The server for the init scripts: the caller's settings, but on the socket alone.
temporary_server() { # start|stop [SETTING…]
  local action=$1 options
  shift
  printf -v options '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}"
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$options" -m fast -w "$action"
}

# Init scripts may call this, as they may in the official image.
docker_process_sql() {
  PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc \
    --dbname "$POSTGRES_DB" "$@"
}

run_init_scripts() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    echo "$0: $file"
    # shellcheck source=/dev/null
    case $file in
      *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) docker_process_sql -f "$file" ;;
      *.sql.gz) gunzip -c "$file" | docker_process_sql ;;
      *.sql.xz) xzcat "$file" | docker_process_sql ;;
      *.sql.zst) zstd -dc "$file" | docker_process_sql ;;
    esac
  done
}

first_start() { # [SETTING…]
  make_cluster
  export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
  temporary_server start "$@"
  if [ "$POSTGRES_DB" != postgres ]; then
    docker_process_sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
  run_init_scripts
  temporary_server stop "$@"
  unset PGPASSWORD
}

# asks_only ARGUMENT…: the server is asked for help or its version; there is nothing to set up.
asks_only() {
  local argument
  for argument; do
    case $argument in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
  done
  return 1
}

if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "${1:-}" = postgres ] && ! asks_only "$@"; then
  mkdir -p "$PGDATA"
  # While still root, as the official image does: a secret's file may be readable by root alone.
  [ -s "$PGDATA/PG_VERSION" ] || settings
  chmod 0700 "$PGDATA" 2>/dev/null || true # as another user, it may belong to somebody else: initdb will say so
  chmod 3775 /var/run/postgresql 2>/dev/null || true
  if [ "$(id -u)" = 0 ]; then
    if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then install -d -o postgres -g postgres -m 0700 "$POSTGRES_INITDB_WALDIR"; fi
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    HOME=/var/lib/postgresql exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
  fi
  [ -s "$PGDATA/PG_VERSION" ] || first_start "${@:2}"
fi
exec "$@"
