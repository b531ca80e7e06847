#!/usr/bin/python
"""Restore one Redis or Valkey server of a Compose stack."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_restore
short_description: Restore one Redis or Valkey server of a Compose stack
description:
  - Proves the backups, takes a safety backup, fills a new database beside the live one while the services run,
    stops what depends on the stores, switches, starts it again, and checks health and data.
  - Any failure brings back the old data and the services that ran before. So does the next run after a crash.
extends_documentation_fragment:
  - stack_backup.job
  - stack_backup.redis
  - stack_backup.point
  - stack_backup.restore
  - stack_backup.smoke
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
- name: Restore one store
  redis_restore:
    stack: trading
    confirm: trading
    project_dir: /srv/trading
    backup_dir: /srv/trading/backups
    name: redis
    service: redis
"""

RETURN = r"""
outcome:
  description: C(restored); in check mode C(planned). Everything else is as the module C(stack_restore) returns it.
  returned: success
  type: str
  sample: restored
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, restore


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(
        argument_spec=arguments.REDIS_RESTORE,
        supports_check_mode=True,
        mutually_exclusive=[("service", "container"), ("password_file", "host_password_file")],
        required_one_of=[("service", "container")],
    )
    edge.answer(module, lambda: restore.restore(arguments.one_store(module.params, "redis"), module.check_mode))


if __name__ == "__main__":
    main()
