#!/usr/bin/python
"""Restore the stores of a Compose stack."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_restore
short_description: Restore the stores of a Compose stack
description:
  - Proves the backups, takes a safety backup, fills a new database beside the live one while the services run,
    stops what depends on the stores, switches, starts it again, and checks health and data.
  - Any failure brings back the old data and the services that ran before. So does the next run after a crash.
  - Stores whose service has no container are brought up first, and the rest of the project after them. A failure
    removes what was brought up.
extends_documentation_fragment:
  - stack_backup.job
  - stack_backup.stores
  - stack_backup.point
  - stack_backup.restore
  - stack_backup.smoke
  - stack_backup.restore_method
attributes:
  check_mode:
    description: Proves the backups and plans the restore, as the real run would; changes nothing.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Restore the newest recovery point
  stack_restore:
    stack: trading
    confirm: trading
    project_dir: /srv/trading
    backup_dir: /srv/trading/backups
    stores:
      - {name: redis, engine: redis, service: redis, password_file: /run/secrets/redis_password}
      - {name: postgres, engine: postgres, service: postgres}
    health_checks:
      - {url: "http://127.0.0.1:8080/health", json: {db: ok}}
"""

RETURN = r"""
outcome:
  description: C(restored); in check mode C(planned). In a failure C(returned) (the old data is live again) or C(stuck).
  returned: when I(action=restore), once anything was touched
  type: str
  sample: restored
point:
  description: Id of the recovery point.
  returned: success
  type: str
  sample: 20261124-021500
id:
  description: Id of the restore itself, UTC.
  returned: success
  type: str
  sample: 20261124-030000
stores:
  description:
    - For each store its backup with its C(age), sizes in bytes, the C(last_change) of the live data where it can be seen at
      once, what was checked, and the smoke queries' answers.
  returned: when I(action=restore)
  type: list
  elements: dict
  sample: [{store: postgres, size: 28598, live_size: 7602703}]
services:
  description: Containers that are stopped and started, in the order of their stop.
  returned: when I(action=restore)
  type: list
  elements: str
  sample: [trading-orchestrator-1]
up:
  description: Services that had no container and are brought up, where stores are among them.
  returned: when I(action=restore)
  type: list
  elements: str
  sample: []
seconds:
  description: Seconds of each phase; C(up) until the stores that had no container took connections.
  returned: after a restore
  type: dict
  sample: {prove: 1.2, up: 5.3, safety: 0.0, prepare: 2.1, stop: 0.1, switch: 1.0, start: 8.4, total: 18.1}
downtime_seconds:
  description:
    - From the first dependent's stop until everything was healthy again.
    - From the restore's begin where stores had no container.
  returned: after a restore
  type: float
  sample: 6.1
kept:
  description: What is kept of the old data.
  returned: after a restore
  type: list
  elements: str
  sample: ["database trading_before_20261124-030000"]
expected:
  description: Seconds that the last drill of these backups took, that the last restore was down, and that one's id.
  returned: in check mode when I(action=restore)
  type: dict
  sample: {drill_seconds: {postgres: 3.2}, last_downtime_seconds: 6.1, last_restore: 20261120-030000}
safety_point:
  description: Recovery point of the data that was replaced.
  returned: after a restore
  type: str
  sample: 20261124-030000
resumed:
  description:
    - The restore that had been interrupted and was taken back first, by its C(id).
    - RV(resumed.safety_point) is the recovery point of what had been written to its data until then.
  returned: after a restore
  type: dict
  sample: {id: 20261124-030000, safety_point: 20261124-031500, services: [], removed: [], unwell: ""}
notes:
  description: What a person should know.
  returned: when I(action=restore)
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, restore


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.STACK_RESTORE, supports_check_mode=True)
    edge.answer(module, lambda: restore.restore(module.params, module.check_mode))


if __name__ == "__main__":
    main()
