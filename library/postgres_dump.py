#!/usr/bin/python
"""Back up one Postgres store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_dump
short_description: Back up one Postgres store
description:
  - Dumps one Postgres database by the engine that recovery_point uses.
extends_documentation_fragment:
  - stack_backup.job
  - stack_backup.limits
  - stack_backup.point_id
  - stack_backup.postgres
  - stack_backup.postgres_dump
attributes:
  check_mode:
    description: Connects to the store and looks at the disk, pins nothing.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Back up one store
  postgres_dump:
    stack: trading
    backup_dir: /srv/trading/backups
    project_dir: /srv/trading
    name: postgres
    service: postgres
"""

RETURN = r"""
id:
  description: Id of the recovery point.
  returned: when the stores were looked at
  type: str
  sample: 20261124-021500
complete:
  description: Whether every store was backed up.
  returned: when the stores were looked at
  type: bool
  sample: true
stores:
  description: For each store its file, size in bytes, sha256, seconds, rate in bytes per second and warnings, or its error.
  returned: when the stores were looked at
  type: list
  elements: dict
  sample: [{store: redis, ok: true, file: /srv/trading/backups/redis/redis-20261124-021500.rdb, size: 1024}]
pin_distance_ms:
  description: Milliseconds between the first and the last pin.
  returned: when the stores were looked at
  type: float
  sample: 3.2
retried:
  description: What stood in the way of earlier tries of this run, one text for each.
  returned: when the stores were looked at
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, point


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(
        argument_spec=arguments.POSTGRES_DUMP,
        supports_check_mode=True,
        mutually_exclusive=[("service", "container"), ("password_file", "host_password_file")],
        required_one_of=[("service", "container")],
    )
    edge.answer(module, lambda: point.take(arguments.one_store(module.params, "postgres"), module.check_mode))


if __name__ == "__main__":
    main()
