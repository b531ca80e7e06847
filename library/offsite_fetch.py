#!/usr/bin/python
"""Bring a recovery point back from an rclone remote."""

from __future__ import annotations

DOCUMENTATION = r"""
module: offsite_fetch
short_description: Bring a recovery point back from an rclone remote
description:
  - Takes a recovery point from the remote by the rules of the catalog; C(latest) is the newest one that is whole there, and
    never a safety backup. Needs nothing on this host but the folder of the backups.
  - Fetches what is missing here, compares every file with the sha256 in its manifest, and puts the data in its place, the
    manifests last. When anything is not as it was backed up, nothing is placed. A fetch that was cut goes on with the next.
  - Nothing here is replaced. When a file of the point is here and differs, the whole point goes into the folder
    C(.from/<stack>) below I(backup_dir) instead, which C(dir) then names, and C(notes) tells why. What is here and good is
    not fetched again.
  - Another stack's points go there too, and only where I(as_stack) says so. No catalog and no retention of this stack sees
    that folder. It holds one point, and goes with the next fetch that places one; or remove it by hand.
  - Whether an encrypted backup can be decrypted is seen by the restore.
extends_documentation_fragment:
  - stack_backup.offsite
  - stack_backup.point
options:
  only:
    description: Names of the stores to fetch; all by default.
    type: list
    elements: str
    default: []
  as_stack:
    description: The name of this stack again, where the remote holds another stack's points and these are meant.
    type: str
attributes:
  check_mode:
    description: Chooses as the real run would, and tells what it would fetch; fetches manifests only.
    support: full
  diff_mode:
    description: Gives no diff; C(fetched) tells what came.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Fetch the newest recovery point
  offsite_fetch:
    stack: trading
    backup_dir: /srv/trading/backups
    remote: s3:bucket/trading
    config_dir: /opt/stack-backup/offsite/trading
"""

RETURN = r"""
point:
  description: Id of the recovery point.
  returned: success
  type: str
  sample: 20261124-021500
dir:
  description: Folder that holds it, as I(backup_dir) of the other modules takes it.
  returned: success
  type: str
  sample: /srv/trading/backups
source_stack:
  description: The stack whose recovery point it is.
  returned: success
  type: str
  sample: trading
fetched:
  description: What was fetched, by its name at the remote, with its bytes; without manifests.
  returned: success
  type: list
  elements: dict
  sample: [{file: postgres/postgres-20261124-021500.dump, size: 1048576}]
bytes:
  description: Bytes of all that was fetched.
  returned: success
  type: int
  sample: 1048576
notes:
  description: What a person should know, such as newer recovery points that C(latest) passed over.
  returned: success
  type: list
  elements: str
  sample: [the newer recovery point 20261124-031500 is incomplete]
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 12.3
problems:
  description: What is half-written, orphaned, damaged or foreign at the remote.
  returned: when no recovery point could be chosen
  type: list
  elements: dict
  sample: [{path: s3:bucket/trading/notes.txt, problem: foreign, message: not written by stack-backup}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge
from ansible.module_utils.stack_backup.offsite import fetch


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.OFFSITE_FETCH, supports_check_mode=True)
    edge.answer(module, lambda: fetch.fetch(module.params, module.check_mode))


if __name__ == "__main__":
    main()
