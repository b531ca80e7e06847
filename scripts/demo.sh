#!/usr/bin/env bash
# The main job on a real stack: start the example under traffic, take a recovery point, drill it, copy it offsite; then a
# disaster and its restore, and one that takes the backups too.
set -euo pipefail
cd "$(dirname "$0")/.."
compose=(docker compose -f examples/trading/compose.yml)
health=http://127.0.0.1:${ORCHESTRATOR_PORT:-8080}/health

PYTHON=$PWD/.venv/bin/python examples/trading/prepare.sh
"${compose[@]}" up --detach --build --wait --quiet-pull
echo "demo: the stack is up: $(curl -fsS "$health")"
sleep 3 # some orders
ansible-playbook -i inventories/demo playbooks/backup.yml
ansible-playbook -i inventories/demo playbooks/verify.yml
ansible-playbook -i inventories/demo playbooks/offsite.yml

echo "demo: the disaster: a dropped table and an emptied Redis"
"${compose[@]}" exec -T postgres psql -q -U trading -d trading -c 'drop table orders, fills cascade'
"${compose[@]}" exec -T redis sh -c 'REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli flushall' >/dev/null
echo "demo: health is now $(curl -sS "$health")"
ansible-playbook -i inventories/demo playbooks/restore.yml -e restore_confirm=trading
echo "demo: health is now $(curl -fsS "$health")"

echo "demo: the machine is gone: no container, no volume, no backup; what is left is the Compose project and the offsite copy"
"${compose[@]}" down --volumes
rm -rf examples/trading/backups
ansible-playbook -i inventories/demo playbooks/restore.yml -e restore_from=offsite -e restore_confirm=trading
echo "demo: health is now $(curl -fsS "$health")"
echo "demo: backups are under examples/trading/backups; remove the stack: make clean"
