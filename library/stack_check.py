#!/usr/bin/python
"""Look at the backups of a stack, and alert when they do not work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_check
short_description: Look at the backups of a stack, and alert when they do not work
description:
  - Looks at age, sizes and digests of the backups, the last run of each job, the last drill, the disk, restores that did
    not end and the clock. Needs neither the stack nor Docker, and works where a backup never ran.
  - Writes metrics for Prometheus, and tells by e-mail and webhook of what changed for the worse, daily while it lasts,
    and once when all is well again. A way that fails is tried again at each check, is a finding and fails nothing.
  - Secrets belong into files that their owner alone reads; they are hidden in whatever is told.
extends_documentation_fragment:
  - stack_backup.check
attributes:
  check_mode:
    description: Looks, but reads no backup for its digest, remembers nothing and tells nobody.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Check the backups
  stack_check:
    stack: trading
    backup_dir: /srv/trading/backups
    metrics_file: /var/lib/prometheus/node-exporter/stack-backup-trading.prom
    email:
      to: [ops@example.com]
      host: mail.example.com
      user: backup
      password_file: /etc/stack-backup/secrets/trading/smtp-password
    webhooks:
      - {url_file: /etc/stack-backup/secrets/trading/webhook-1, format: slack}
    pings:
      - {job: backup, url_file: /etc/stack-backup/secrets/trading/ping-1}
"""

RETURN = r"""
status:
  description: The worst finding, 0 well, 1 warning, 2 critical, 3 not found out.
  returned: success
  type: int
  sample: 0
findings:
  description: What was found, each with its status and one sentence.
  returned: success
  type: list
  elements: dict
  sample: [{check: point, status: 0, message: the newest complete recovery point 20261124-021500 is 3.2 h old}]
alerted:
  description: Who was told, and why (problem, reminder, recovery).
  returned: success
  type: dict
  sample: {e-mail: problem}
metrics:
  description: What the metrics file says.
  returned: success
  type: list
  elements: dict
  sample: [{name: point_age_seconds, labels: {}, value: 11520.0}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, monitor


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.STACK_CHECK, supports_check_mode=True)
    edge.answer(module, lambda: monitor.check(module.params, module.check_mode))


if __name__ == "__main__":
    main()
