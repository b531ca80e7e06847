#!/usr/bin/python
"""Restore a recovery point into throw-away containers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_drill
short_description: Restore a recovery point into throw-away containers
description:
  - Compares the digests, reads the structure, then restores each backup into a container of the image that it was taken
    with, without network; compares the counts with the manifest's and asks the smoke queries. Everything is removed.
  - The result is written beside each backup and shows in its catalog entry as C(verified).
extends_documentation_fragment:
  - stack_backup.catalog
  - stack_backup.point
  - stack_backup.identity
  - stack_backup.smoke
options:
  only:
    description: Names of the stores to drill; all by default.
    type: list
    elements: str
    default: []
  memory:
    description: Memory limit of each throw-away container, as docker takes it.
    type: str
    default: 1g
attributes:
  check_mode:
    description: A drill is a run or it is nothing; check mode is not supported.
    support: none
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Drill the newest recovery point
  backup_drill:
    backup_dir: /srv/trading/backups
    stack: trading
    smoke_queries:
      - {store: postgres, sql: "select count(*) > 0 from orders", expect: "t"}
"""

RETURN = r"""
point:
  description: Id of the recovery point.
  returned: when a point was chosen
  type: str
  sample: 20261124-021500
complete:
  description: Whether the point has all its stores.
  returned: when a point was chosen
  type: bool
  sample: true
stores:
  description: >-
    For each store whether it restored, the seconds that took, and what was checked. Where it did not, C(conclusive) says
    whether the backup itself is to blame: only that is written beside the backup and counts for retention.
  returned: when a point was chosen
  type: list
  elements: dict
  sample: [{store: redis, ok: true, conclusive: true, seconds: 2.4}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, drill, edge


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.BACKUP_DRILL)
    edge.answer(module, lambda: drill.drill(module.params))


if __name__ == "__main__":
    main()
