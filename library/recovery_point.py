#!/usr/bin/python
"""Take a recovery point of a Compose stack."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_point
short_description: Take a recovery point of a Compose stack
description:
  - Pins every store within milliseconds, streams them side by side, and publishes them under one id.
  - A store that fails does not stop the others; the point is then incomplete and the task fails.
extends_documentation_fragment:
  - stack_backup.job
  - stack_backup.limits
  - stack_backup.point_id
  - stack_backup.stores
options:
  quiesce:
    description: Services that are paused while the stores are pinned.
    type: list
    elements: str
    default: []
  slots_dir:
    description:
      - Folder that several stacks share, such as the mount point of their disk, also over NFS. Only I(slots) of them take
        a recovery point at once; others wait for their turn, within I(timeout).
    type: str
  slots:
    description: How many at once. The same for all that share the folder.
    type: int
    default: 1
attributes:
  check_mode:
    description: Connects to every store and looks at the disk, pins nothing.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Take a recovery point
  recovery_point:
    stack: trading
    project_dir: /srv/trading
    backup_dir: /srv/trading/backups
    stores:
      - {name: redis, engine: redis, service: redis, password_file: /run/secrets/redis_password}
      - {name: postgres, engine: postgres, service: postgres}
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
    module = AnsibleModule(argument_spec=arguments.RECOVERY_POINT, supports_check_mode=True)
    edge.answer(module, lambda: point.take(module.params, module.check_mode))


if __name__ == "__main__":
    main()
