#!/usr/bin/python
"""Read the backups of a recovery point to their end."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_verify
short_description: Read the backups of a recovery point to their end
description:
  - Compares the digests, then reads the structure in a throw-away container without network.
  - Of an encrypted backup whose identity is not given, the digests are all that is checked; C(checked.structure) is then false.
extends_documentation_fragment:
  - stack_backup.catalog
  - stack_backup.point
  - stack_backup.identity
options:
  only:
    description: Names of the stores to verify; all by default.
    type: list
    elements: str
    default: []
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
- name: Verify the newest recovery point
  backup_verify:
    backup_dir: /srv/trading/backups
    stack: trading
"""

RETURN = r"""
point:
  description: Id of the recovery point.
  returned: success
  type: str
  sample: 20261124-021500
complete:
  description: Whether the point has all its stores.
  returned: success
  type: bool
  sample: true
stores:
  description: For each store whether it is good, and what was checked.
  returned: success
  type: list
  elements: dict
  sample: [{store: redis, ok: true}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, verify


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.BACKUP_VERIFY, supports_check_mode=True)
    edge.answer(module, lambda: verify.verify(module.params))


if __name__ == "__main__":
    main()
