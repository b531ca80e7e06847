#!/usr/bin/python
"""Remove recovery points that the retention policy does not keep."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_prune
short_description: Remove recovery points that the retention policy does not keep
description:
  - Keeps the newest good point of each of the last hours, days, weeks, months and years that have one; each rule counts
    by itself, and a point stays when any of them keeps it. A point's stores stay or go together.
  - Never removes the newest good point, the newest one that a drill restored, what a restore may need, or what
    stack-backup did not write.
  - Removes nothing at all, and fails, when the newest point is incomplete, damaged, too old or suspiciously small.
  - Removes what jobs left that did not end, when it is older than a day.
extends_documentation_fragment:
  - stack_backup.retention
attributes:
  check_mode:
    description: Plans as the real run would, and fails as it would; removes nothing.
    support: full
  diff_mode:
    description: Shows every recovery point with the reason why it stays or goes.
    support: full
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Prune the backups
  backup_prune:
    stack: trading
    backup_dir: /srv/trading/backups
    keep_daily: 7
    keep_weekly: 4
    keep_monthly: 3
"""

RETURN = r"""
kept:
  description: Recovery points that stay, oldest first, with the reasons and bytes on disk.
  returned: when the backups were looked at
  type: list
  elements: dict
  sample: [{id: 20261124-021500, why: "newest, daily 2026-11-24", size: 1048576}]
removed:
  description: Recovery points that went, with the reason and bytes on disk.
  returned: when the backups were looked at
  type: list
  elements: dict
  sample: [{id: 20260824-021500, why: no rule keeps it, size: 1048576}]
cleaned:
  description: What jobs left that did not end, and journals of restores that keep nothing any more; it went.
  returned: when the backups were looked at
  type: list
  elements: dict
  sample: [{path: /srv/x/x-20260824-021500.partial, why: "half-written, left by a backup that did not end", size: 1024}]
freed:
  description: Bytes on disk of all that went.
  returned: when the backups were looked at
  type: int
  sample: 1048576
problems:
  description: What is half-written, orphaned, damaged or foreign, and stays.
  returned: when the backups were looked at
  type: list
  elements: dict
  sample: [{path: /srv/x/notes.txt, problem: foreign, message: not written by stack-backup}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, prune


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.BACKUP_PRUNE, supports_check_mode=True)

    def job() -> dict[str, Any]:
        answer = prune.prune(module.params, module.check_mode)
        return {**answer, "diff": prune.diff(answer)} if module._diff else answer

    edge.answer(module, job)


if __name__ == "__main__":
    main()
