#!/usr/bin/python
"""Copy recovery points to an rclone remote."""

from __future__ import annotations

DOCUMENTATION = r"""
module: offsite_copy
short_description: Copy recovery points to an rclone remote
description:
  - Copies every good recovery point that the remote does not have, newest first; the data, then the manifests, each
    compared with what is here by the remote's own listing and hashes. A copy that was cut off goes on with the next run,
    and is no recovery point until then.
  - Nothing at the remote is replaced, and nothing removed but what a copy left that did not end.
  - Fails when something could not be copied, or when the remote does not hold it as it was copied.
  - The remote becomes the stack's with the first copy, by a file C(stack-backup.json); another stack's is refused.
  - rclone uploads to S3 in parts from 200 MiB on, and keeps the hash of such a file beside it. Whether one was altered
    there with that hash kept is seen when it is fetched. Parts of an upload that was killed go by a lifecycle rule of the
    bucket (C(AbortIncompleteMultipartUpload)).
extends_documentation_fragment:
  - stack_backup.offsite
options:
  check_points:
    description:
      - How many recovery points that were copied before are compared again; what was compared longest ago first, and of
        those that are here still.
    type: int
    default: 1
  download_bytes:
    description:
      - How many bytes a run may read back to compare by content, where the remote has no hashes; new points first. The
        rest is compared by size, and told in C(notes).
    type: int
    default: 1073741824
attributes:
  check_mode:
    description: Looks at both sides as the real run would, and tells what is missing; does not try to write.
    support: full
  diff_mode:
    description: Gives no diff; C(missing) tells what would be copied.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Copy the recovery points
  offsite_copy:
    stack: trading
    backup_dir: /srv/trading/backups
    remote: s3:bucket/trading
    config_dir: /opt/stack-backup/offsite/trading
"""

RETURN = r"""
remote:
  description: Where to.
  returned: when the remote was looked at
  type: str
  sample: s3:bucket/trading
copied:
  description: Recovery points that were copied, newest first, with their bytes.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{id: 20261124-021500, size: 1048576}]
missing:
  description: Good recovery points that are here and not there, oldest first; in check mode those that would be copied.
  returned: when the remote was looked at
  type: list
  elements: str
  sample: [20261124-021500]
there:
  description: Whole recovery points at the remote, oldest first.
  returned: when the remote was looked at
  type: list
  elements: str
  sample: [20261123-021500, 20261124-021500]
newest:
  description: The newest of them.
  returned: when the remote was looked at
  type: str
  sample: 20261124-021500
checked:
  description: Recovery points that were compared with what is here.
  returned: when the remote was looked at
  type: list
  elements: str
  sample: [20261124-021500]
problems:
  description: What is half-written, orphaned, damaged or foreign at the remote.
  returned: when the remote was looked at
  type: list
  elements: dict
  sample: [{path: "s3:bucket/trading/notes.txt", problem: foreign, message: not written by stack-backup}]
notes:
  description: What a person should know of the run.
  returned: when the remote was looked at
  type: list
  elements: str
  sample: [recovery point 20261101-021500 was pruned here while it was copied]
seconds:
  description: How long it took.
  returned: when the remote was looked at
  type: float
  sample: 12.3
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge
from ansible.module_utils.stack_backup.offsite import copy


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.OFFSITE_COPY, supports_check_mode=True)
    edge.answer(module, lambda: copy.copy(module.params, module.check_mode))


if __name__ == "__main__":
    main()
