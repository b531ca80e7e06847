#!/usr/bin/python
"""List the recovery points of a backup folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List the recovery points of a backup folder
description:
  - Reads the catalog, and tells what is wrong in it. Reads manifests and sizes, not the data.
extends_documentation_fragment:
  - stack_backup.signers
options:
  backup_dir:
    description: Folder of the backups.
    type: str
    required: true
  stack:
    description: Name of the stack; backups of another one are then reported as foreign.
    type: str
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: List the backups
  backup_info:
    backup_dir: /srv/trading/backups
    stack: trading
"""

RETURN = r"""
points:
  description:
    - Recovery points, oldest first.
    - C(safety) is true of what a restore saved of the data that it was about to replace.
  returned: success
  type: list
  elements: dict
  sample: [{id: 20261124-021500, complete: true, safety: false, backups: []}]
latest:
  description: Newest complete recovery point that is no safety backup, or null.
  returned: success
  type: str
  sample: 20261124-021500
problems:
  description: What is half-written, orphaned, damaged, foreign, not signed as it should be, or missing.
  returned: success
  type: list
  elements: dict
  sample: [{path: /srv/x.dump, problem: orphaned, message: there is no manifest beside it; …}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, catalog, edge


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.BACKUP_INFO, supports_check_mode=True)
    edge.answer(module, lambda: catalog.info(module.params))


if __name__ == "__main__":
    main()
