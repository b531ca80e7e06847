#!/usr/bin/python
"""Take dumps that others made into the catalog."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_adopt
short_description: Take dumps that others made into the catalog
description:
  - Each dump is read to its end and restored into a throw-away container of the store's own image, without network. What
    restored becomes a backup with digest and manifest, and is listed, restored, drilled, copied and pruned as any other.
  - Taken are archives of pg_dump in the custom or directory format, and RDB files. Their content decides, not their name.
  - A dump that is empty, cut off or something else is refused and named; the others are adopted.
  - Dumps of several stores that were taken within O(pair_minutes) become one recovery point. One that has no such partner
    becomes an incomplete one.
  - The roles of a server are not in its dump. A restore makes those that the dump needs and the server lacks, without
    LOGIN and password, and says so.
extends_documentation_fragment:
  - stack_backup.job
  - stack_backup.stores
options:
  paths:
    description:
      - Dumps, or folders that hold some, in which only files named C(.dump) or C(.rdb) are looked at. Absolute.
      - Whose a dump is its engine tells; where the stack has several stores of that, I(only) or the name of its folder.
    type: list
    elements: str
    required: true
  pair_minutes:
    description: How far apart the dumps of one recovery point may have been taken.
    type: float
    default: 10.0
  move:
    description:
      - Remove each original when it is in the catalog; it then takes no second room on the same file system.
      - By default it stays as it is, and a copy becomes the backup; but one that lies where a backup of its time would lie,
        as C(<backup_dir>/<store>/<store>-YYYYMMDD-HHMMSS.dump), gets its manifest there.
    type: bool
    default: false
  memory:
    description: Memory limit of each throw-away container, as docker takes it.
    type: str
    default: 1g
attributes:
  check_mode:
    description: Proves each dump as the real run would; publishes nothing.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Adopt what the old scripts made
  backup_adopt:
    stack: trading
    project_dir: /srv/trading
    backup_dir: /srv/trading/backups
    stores:
      - {name: redis, engine: redis, service: redis}
      - {name: postgres, engine: postgres, service: postgres}
    paths: [/srv/trading/backups]
"""

RETURN = r"""
points:
  description: Each recovery point that was made, whether it is complete, and the source of each of its backups.
  returned: when a dump was looked at
  type: list
  elements: dict
  sample:
    - id: 20261124-021500
      complete: true
      stores: [{store: redis, source: /srv/trading/backups/redis/redis-20261124-021503.rdb, size: 21000000}]
there:
  description: Dumps that were adopted before.
  returned: when a dump was looked at
  type: list
  elements: str
  sample: []
passed_over:
  description: Files of the folders that are named neither C(.dump) nor C(.rdb), and not of the catalog.
  returned: when a dump was looked at
  type: list
  elements: str
  sample: []
refused:
  description: What was not adopted, and why.
  returned: when a dump was looked at
  type: list
  elements: dict
  sample: [{path: /srv/trading/backups/postgres/postgres-20261123-021500.dump, why: "is empty: the dump failed when it was made"}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import adopt, arguments, edge


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.BACKUP_ADOPT, supports_check_mode=True)
    edge.answer(module, lambda: adopt.adopt(module.params, module.check_mode))


if __name__ == "__main__":
    main()
