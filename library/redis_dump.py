#!/usr/bin/python
"""Back up one Redis store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_dump
short_description: Back up one Redis store
description:
  - Saves one Redis server by the engine that recovery_point uses.
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
  username:
    description: ACL user; it needs C(+ping +info +config|get +time +bgsave).
    type: str
  method:
    description: C(bgsave) by default; C(save) blocks every client for the whole save.
    type: str
    choices: [bgsave, save]
  tls:
    description: Whether the server speaks TLS.
    type: bool
  cacert:
    description: CA certificate inside the container.
    type: str
  cert:
    description: Client certificate inside the container.
    type: str
  key:
    description: Client key inside the container.
    type: str
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
  redis_dump:
    stack: trading
    backup_dir: /srv/trading/backups
    project_dir: /srv/trading
    name: redis
    service: redis
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
        argument_spec=arguments.REDIS_DUMP,
        supports_check_mode=True,
        mutually_exclusive=[("service", "container"), ("password_file", "host_password_file")],
        required_one_of=[("service", "container")],
    )
    edge.answer(module, lambda: point.take(arguments.one_store(module.params, "redis"), module.check_mode))


if __name__ == "__main__":
    main()
