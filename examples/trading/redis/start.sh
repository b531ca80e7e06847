#!/bin/sh
# Starts Redis with its password from the secret: in a file of its own, never in argv or environment.
set -eu
conf=/run/redis/redis.conf

umask 077
{
  cat /etc/trading/redis.conf
  # printf is built into the shell, so no program's argv shows the password.
  printf 'requirepass "%s"\n' "$(cat /run/secrets/redis_password)"
} >"$conf"
chown redis "$conf"
umask 022

# The image's own entrypoint gives /data to the user redis and steps down to it.
exec docker-entrypoint.sh redis-server "$conf"
