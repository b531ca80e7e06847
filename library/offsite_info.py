#!/usr/bin/python
"""Look at the bucket that holds a stack's offsite copies, with keys that can only read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: offsite_info
short_description: Look at the bucket that holds a stack's offsite copies
description:
  - An independent look at an S3 bucket, by boto3 and with keys of its own, at what C(offsite_copy) brought there by rclone;
    which recovery points are whole against their manifests, and what guards the bucket.
  - Runs on the control node (C(delegate_to=localhost)), which needs the Python package boto3.
  - The keys need C(s3:ListBucket) and C(s3:GetObject). What they may not ask of the bucket's settings
    (C(s3:GetBucketVersioning), C(s3:GetBucketObjectLockConfiguration), C(s3:GetBucketPublicAccessBlock),
    C(s3:GetBucketPolicyStatus), C(s3:GetEncryptionConfiguration), C(s3:GetObjectRetention)), or the endpoint does
    not know, is told as C(unknown) with the reason, and fails nothing.
  - Reads the listing and the manifests; of the newest whole point also what the bucket keeps of each object.
extends_documentation_fragment:
  - stack_backup.signers
options:
  stack:
    description: Name of the stack; backups of another one are reported as foreign.
    type: str
    required: true
  bucket:
    description: Name of the bucket.
    type: str
    required: true
  prefix:
    description: Prefix of the stack in the bucket.
    type: str
    default: ""
  endpoint_url:
    description: Address of the S3 service, where it is not Amazon's.
    type: str
  region:
    description: Region of the bucket.
    type: str
  access_key:
    description: Id of the keys. Without it and I(secret_key) boto3 finds its own (environment, profile, instance role).
    type: str
  secret_key:
    description: Secret of the keys.
    type: str
  profile:
    description: Profile of boto3's configuration.
    type: str
  ca_bundle:
    description: File of the CA certificates that the endpoint's is verified by, where the system's do not do.
    type: str
  download:
    description:
      - Of which points every file is read, as a stream, to compare its sha256 with the manifest's.
      - Of files that are not read it is compared with the one that the bucket keeps, which few uploads leave there and which is asked
        for of the newest whole point only; else their size alone. An ETag, MD5 at best, proves nothing against a manifest.
    type: str
    choices: [none, newest, all]
    default: none
  max_age_hours:
    description: Age at which the newest whole recovery point is too old.
    type: float
    default: 26
  timeout:
    description: Seconds after which no further request is made. An endpoint that does not answer is given up within one minute.
    type: float
    default: 14400
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
- name: Look at the bucket
  offsite_info:
    stack: trading
    bucket: example-backups
    prefix: production/trading
    region: eu-central-1
    access_key: "{{ vault_offsite_info_access_key }}"
    secret_key: "{{ vault_offsite_info_secret_key }}"
    download: newest
  delegate_to: localhost
"""

RETURN = r"""
url:
  description: Where it looked.
  returned: success
  type: str
  sample: s3://example-backups/production/trading/
owner:
  description: The stack that the prefix's own mark names, null where there is none.
  returned: success
  type: str
  sample: trading
points:
  description: Recovery points, oldest first, each with its stores and how the files' checksums were compared.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 20261124-021500
      whole: true
      fault: ""
      safety: false
      size: 412316860
      stores:
        - store: postgres
          engine: postgres
          encrypted: false
          size: 412316860
          files:
            - {name: postgres/postgres-20261124-021500.dump, objects: 1, size: 412316860, compared: sha256 by download}
newest:
  description: The newest whole recovery point, or null.
  returned: success
  type: str
  sample: 20261124-021500
compared:
  description: How the checksums of the newest whole point were compared, or null.
  returned: success
  type: str
  sample: size only
problems:
  description: Objects that are missing, cut, changed, foreign or left by copies that did not end.
  returned: success
  type: list
  elements: dict
  sample:
    - key: s3://example-backups/production/trading/redis/redis-20261124-021500.rdb
      problem: damaged
      message: redis-20261124-021500.rdb has 100 bytes, its manifest says 2048
bucket:
  description: What guards the bucket, each in a word or as C(unknown) with the reason.
  returned: success
  type: dict
  sample:
    versioning: enabled
    object_lock: "on"
    default_retention: COMPLIANCE 30 days
    public_access: blocked
    policy: none
    encryption: AES256
retention:
  description: The lock of the newest whole point's objects, until when all of them are locked.
  returned: success
  type: dict
  sample: {mode: COMPLIANCE, until: "2026-12-24T02:15:09Z"}
findings:
  description: What is well and what is not, each with its status and one sentence.
  returned: success
  type: list
  elements: dict
  sample: [{check: offsite_versioning, status: 0, message: versioning is enabled}]
status:
  description: The worst finding, 0 well, 1 warning, 2 critical.
  returned: success
  type: int
  sample: 0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge
from ansible.module_utils.stack_backup_bucket import look


def main() -> None:
    """Hand the parameters to the look."""
    module = AnsibleModule(argument_spec=arguments.OFFSITE_INFO, supports_check_mode=True)
    edge.answer(module, lambda: look(module.params))


if __name__ == "__main__":
    main()
