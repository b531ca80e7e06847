#!/usr/bin/python
"""Tell what there is of a stack's backups: points, growth, drills, offsite copies, what goes when."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_status
short_description: Tell what there is of a stack's backups
description:
  - Reads the catalog, the results of drills, what is known of the remote, and the schedule, and tells how sizes and seconds
    went, what retention will remove in the days to come, and when each job runs next. M(stack_check) judges; this tells.
  - Points of the last half year are told by day too, older ones by month. Times are seconds since 1970.
extends_documentation_fragment:
  - stack_backup.retention
options:
  state_dir:
    description: Folder of the records of jobs; C(/var/lib/stack-backup/<stack>) by default.
    type: str
  schedule_file:
    description: The crontab of the stack's jobs; C(/etc/cron.d/stack-backup-<stack>) by default.
    type: str
  offsite_remote:
    description: The remote that the backups are copied to, if there is one.
    type: str
  points:
    description: How many of the newest recovery points are told one by one.
    type: int
    default: 60
  preview_days:
    description: How many days retention is played through.
    type: int
    default: 30
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
- name: Look at the backups
  stack_status:
    stack: trading
    backup_dir: /srv/trading/backups
    keep_daily: 7
    keep_weekly: 4
    keep_monthly: 3
"""

RETURN = r"""
at:
  description: When it looked.
  returned: success
  type: int
  sample: 1764123300
error:
  description: Why the backups can't be read, empty where they can.
  returned: success
  type: str
  sample: ""
newest:
  description: The newest complete recovery point, as one of I(points), or null.
  returned: success
  type: dict
  sample: {id: 20261124-021500, complete: true, bytes: 412316860, seconds: 10.4}
trend:
  description: The newest point's size against the median of up to seven before it that have the same stores, or null.
  returned: success
  type: dict
  sample: {usual: 404000000, of: 7, change: 0.0206}
totals:
  description: How many points there are, how many of them complete, and their bytes.
  returned: success
  type: dict
  sample: {points: 14, complete: 14, bytes: 5412316860}
points:
  description: The newest points, oldest first, each with its last drill, since when it is offsite, why it stays, and when it goes.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 20261124-021500
      complete: true
      fault: ""
      safety: false
      bytes: 412316860
      seconds: 10.4
      offsite: 1764130500
      drill: {at: 1764135300, ok: true, seconds: 31.5, restore_seconds: 24.1, stores: [postgres, redis], missing: [], error: ""}
      keeps: newest, daily 2026-11-24
      goes: null
days:
  description: Days of the last half year that have points.
  returned: success
  type: list
  elements: dict
  sample: [{day: "20261124", points: 1, complete: 1, drilled: 1, failed: 0, bytes: 412316860, seconds: 10.4}]
months:
  description: The months before that, with the median of their points.
  returned: success
  type: list
  elements: dict
  sample: [{month: "202605", points: 1, bytes: 312316860, seconds: 8.1}]
drills:
  description: The last drills of points that are still there, oldest first.
  returned: success
  type: list
  elements: dict
  sample: [{id: 20261124-021500, at: 1764135300, ok: true, seconds: 31.5, restore_seconds: 24.1}]
restores:
  description: The last restores, with the seconds that the data was away.
  returned: success
  type: list
  elements: dict
  sample: [{id: 20261124-101500, point: 20261124-021500, downtime: 4.25}]
offsite:
  description: What is known of the remote, or null where there is none.
  returned: success
  type: dict
  sample: {remote: "s3:bucket/trading", at: 1764130500, points: 30, newest: 20261124-021500, lacking: 0, only_there: 16}
retention:
  description:
    - What was played through, and what goes with which prune; of many points the last ones are named.
    - C(supposed) where nothing is scheduled and a point and a prune each day were taken; C(held) says why nothing may go now.
  returned: success
  type: dict
  sample:
    days: 30
    prunes: 30
    supposed: false
    held: ""
    error: ""
    goes: [{at: 1764213300, points: 1, bytes: 402316860, ids: [20261116-021500], why: [no rule keeps it]}]
next:
  description: When each scheduled job runs next.
  returned: success
  type: dict
  sample: {backup: 1764209700, prune: 1764213300}
disk:
  description: Bytes of the backups' disk, or null where it can't be looked at.
  returned: success
  type: dict
  sample: {free: 51000000000, total: 105000000000}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, status


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.STACK_STATUS, supports_check_mode=True)
    edge.answer(module, lambda: status.look(module.params))


if __name__ == "__main__":
    main()
