#!/usr/bin/python
"""Back up one Postgres store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_dump
short_description: Back up one Postgres store
description:
  - Dumps one Postgres database by the engine that recovery_point uses.
options:
  stack:
    description: Name of the stack, as written into the manifests.
    type: str
    required: true
  backup_dir:
    description: Folder of the backups; it must be there. Files are written 0600, folders 0700.
    type: str
    required: true
  project_dir:
    description: Folder of the Compose project. Needed for stores that name a C(service).
    type: str
  compose_files:
    description: Compose files, relative to I(project_dir), where they are not the standard ones.
    type: list
    elements: str
    default: []
  project_name:
    description: Name of the Compose project, where the files and their environment do not tell it.
    type: str
  id:
    description: Id of the recovery point, C(YYYYMMDD-HHMMSS) in UTC; the time of the call by default.
    type: str
  timeout:
    description: Seconds after which the job and the programs it started are ended.
    type: float
    default: 14400
  name:
    description: Name of the store, which is that of its folder too.
    type: str
    required: true
  service:
    description: Compose service of the database. This or I(container).
    type: str
  container:
    description: Name of a container, instead of I(service).
    type: str
  password_file:
    description: File inside the container that holds the password.
    type: str
  host_password_file:
    description: File on the host that holds the password.
    type: str
  port:
    description: Port of the server inside the container, where it is not the standard one.
    type: int
  database:
    description: Database; by default what the container was given (C(POSTGRES_DB)).
    type: str
  user:
    description: Role; by default what the container was given (C(POSTGRES_USER)).
    type: str
  format:
    description: C(custom), one file, by default; or C(directory), a folder written by I(jobs) processes.
    type: str
    choices: [custom, directory]
  jobs:
    description: Processes for I(format=directory), 2 by default.
    type: int
  compression:
    description: As C(pg_dump --compress) takes it; by default the best that the server's pg_dump has.
    type: str
  via:
    description:
      - C(side) runs pg_dump in a throw-away container beside the server, C(exec) in the server's container.
      - C(auto), the default, takes C(side) and falls back to C(exec).
    type: str
    choices: [auto, side, exec]
  row_counts:
    description: Whether the rows of each table are counted in the pinned snapshot, yes by default.
    type: bool
attributes:
  check_mode:
    description: Connects to the store and looks at the disk, pins nothing.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Back up one store
  postgres_dump:
    stack: trading
    backup_dir: /srv/trading/backups
    project_dir: /srv/trading
    name: postgres
    service: postgres
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
  description: For each store its file, size in bytes, sha256, seconds, rate in bytes per second, or its error.
  returned: when the stores were looked at
  type: list
  elements: dict
  sample: [{store: redis, ok: true, file: /srv/trading/backups/redis/redis-20261124-021500.rdb, size: 1024}]
pin_distance_ms:
  description: Milliseconds between the first and the last pin.
  returned: when the stores were looked at
  type: float
  sample: 3.2
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, point


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(
        argument_spec=arguments.POSTGRES_DUMP,
        supports_check_mode=True,
        mutually_exclusive=[("service", "container"), ("password_file", "host_password_file")],
        required_one_of=[("service", "container")],
    )
    edge.answer(module, lambda: point.take(arguments.one_store(module.params, "postgres"), module.check_mode))


if __name__ == "__main__":
    main()
