#!/usr/bin/env bash
# The main job on a real stack: start the example under traffic, take a recovery point, verify it.
set -euo pipefail
cd "$(dirname "$0")/.."
compose=(docker compose -f examples/trading/compose.yml)

PYTHON=$PWD/.venv/bin/python examples/trading/prepare.sh
"${compose[@]}" up --detach --build --wait --quiet-pull
echo "demo: the stack is up: $(curl -fsS "http://127.0.0.1:${ORCHESTRATOR_PORT:-8080}/health")"
sleep 3 # some orders
ansible-playbook -i inventories/demo playbooks/backup.yml
ansible -i inventories/demo trading -m backup_verify -a 'backup_dir={{ stack_backup_dir }} stack=trading'
echo "demo: the recovery point is under examples/trading/backups; remove the stack: ${compose[*]} down --volumes"
