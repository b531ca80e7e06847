#!/usr/bin/python
"""Remove recovery points from an rclone remote that its retention policy does not keep."""

from __future__ import annotations

DOCUMENTATION = r"""
module: offsite_prune
short_description: Remove recovery points from an rclone remote that its retention policy does not keep
description:
  - By the rules of M(backup_prune), with keep values of its own. Off unless at least one I(keep_*) is given.
  - Never removes the newest good point of the remote, the newest one that a drill restored here, nor what stack-backup did
    not write; removes nothing, and fails, when the newest point there is incomplete, damaged, too old or suspiciously small.
  - Removes what copies left that did not end, when it is older than a day and no copy goes on with it.
  - What the remote refuses to remove, by an object lock or for want of a permission, is told in C(refused), and no failure.
    The files of a point whose manifest is refused stay too, so that it stays whole.
  - In a bucket with versions a removal hides a file, and its version stays, locked or not, until a lifecycle rule of the
    bucket removes it (C(NoncurrentVersionExpiration)).
  - What went is not copied again while it is here still.
extends_documentation_fragment:
  - stack_backup.offsite
  - stack_backup.offsite_retention
attributes:
  check_mode:
    description: Plans as the real run would, and fails as it would; removes nothing, and can't know what will be refused.
    support: full
  diff_mode:
    description: Shows every recovery point at the remote with the reason why it stays or goes.
    support: full
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Prune the offsite copies
  offsite_prune:
    stack: trading
    backup_dir: /srv/trading/backups
    remote: s3:bucket/trading
    config_dir: /opt/stack-backup/offsite/trading
    keep_daily: 30
    keep_monthly: 12
"""

RETURN = r"""
off:
  description: Whether no I(keep_*) is given, so that nothing was looked at.
  returned: success
  type: bool
  sample: false
kept:
  description: Recovery points that stay, oldest first, with the reasons and bytes.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{id: 20261124-021500, why: "newest, daily 2026-11-24", size: 1048576}]
removed:
  description: Recovery points that went, with the reason and bytes.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{id: 20260824-021500, why: no rule keeps it, size: 1048576}]
cleaned:
  description: What copies left that did not end, and went.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{path: redis/redis-20260824-021500.rdb, why: left by a copy that did not end, size: 1024}]
refused:
  description: Recovery points and files that the remote did not remove, and why.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{id: 20260824-021500, why: "redis/redis-20260824-021500.json is there still: AccessDenied"}]
freed:
  description: Bytes of all that went.
  returned: when the remote was looked at
  type: int
  sample: 1048576
problems:
  description: What is half-written, orphaned, damaged or foreign at the remote, and stays.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{path: s3:bucket/trading/notes.txt, problem: foreign, message: not written by stack-backup}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, prune
from ansible.module_utils.stack_backup.offsite import prune as offsite_prune


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.OFFSITE_PRUNE, supports_check_mode=True)

    def job() -> dict[str, Any]:
        answer = offsite_prune.prune(module.params, module.check_mode)
        return {**answer, "diff": prune.diff(answer)} if module._diff else answer

    edge.answer(module, job)


if __name__ == "__main__":
    main()
