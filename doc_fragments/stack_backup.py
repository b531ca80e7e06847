"""What the modules' options mean: each option once, in the groups of ``module_utils/stack_backup/arguments.py``."""

from __future__ import annotations

import re
from textwrap import indent

_SIGNERS = r"""
allowed_signers:
  description:
    - Who must have signed the backups that are used; without any, signatures are not looked at. Public keys, or lines of
      an C(allowed_signers) file (ssh-keygen(1)), whose principals are names of stacks, or patterns of them.
    - What is not signed, or not by them, is refused before anything reads it. Needs the program C(ssh-keygen).
  type: list
  elements: str
  default: []
"""
_SIGN_KEY = r"""
sign_key:
  description:
    - File on the host with the SSH private key that signs what is written. It has no passphrase, and nobody else reads it.
      Needs the program C(ssh-keygen).
  type: str
"""
_JOB = r"""
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
age_recipients:
  description:
    - Public keys (C(age1…), C(ssh-ed25519 …), C(ssh-rsa …)) that backups are encrypted to, so that this host can't
      read them. Each identity by itself decrypts. Needs the program C(age) on the host.
  type: list
  elements: str
  default: []
timeout:
  description: Seconds after which the job and the programs it started are ended.
  type: float
  default: 14400
"""
_LIMITS = r"""
cpus:
  description:
    - Processors, such as 1.5, that each throw-away container which dumps may take; no limit by default. Whatever it is,
      such a container gets a quarter of a database's share where both want the processor.
  type: float
memory:
  description: Memory, C(64m) or more, that each of them may take, as docker takes it; no limit by default.
  type: str
io:
  description:
    - Bytes, C(1m) or more, that each of them may write in a second, as docker takes it; no limit by default. Refused where
      the kernel would not limit it, that is without cgroup v2 and its io controller, and on NFS, btrfs and overlay.
  type: str
"""
_CATALOG = r"""
backup_dir:
  description: Folder of the backups.
  type: str
  required: true
stack:
  description: Name of the stack; backups of another one are then reported as foreign.
  type: str
"""
_TIMEOUT = r"""
timeout:
  description: Seconds after which the job is ended.
  type: float
  default: 14400
"""
_POINT = r"""
point:
  description: Id of the recovery point, or C(latest).
  type: str
  default: latest
"""
_ID = r"""
id:
  description: Id of the recovery point, C(YYYYMMDD-HHMMSS) in UTC; the time of the call by default.
  type: str
"""
_STORE = r"""
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
"""
_ENGINE = r"""
engine:
  description: Engine of the store.
  type: str
  required: true
  choices: [postgres, redis]
"""
_POSTGRES_LOGIN = r"""
database:
  description: Database; by default what the container was given (C(POSTGRES_DB)).
  type: str
user:
  description: Role; by default what the container was given (C(POSTGRES_USER)).
  type: str
via:
  description:
    - C(side) runs pg_dump in a throw-away container beside the server, C(exec) in the server's container.
    - C(auto), the default, takes C(side) and falls back to C(exec).
  type: str
  choices: [auto, side, exec]
"""
_POSTGRES_DUMP = r"""
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
row_counts:
  description: Whether the rows of each table are counted in the pinned snapshot, yes by default.
  type: bool
lock_timeout:
  description:
    - Seconds that C(pg_dump) waits for a table that another session has locked, 10 by default. While it waits it keeps
      others from changing the tables that it holds already.
    - The recovery point is then taken anew, 15 and 60 seconds later, and fails after that. So it is when a table was
      emptied or rewritten (C(TRUNCATE), C(ALTER TABLE)) between the snapshot and the lock, since it would be empty in the
      dump (PostgreSQL manual, 13.6 "Caveats").
  type: float
"""
_REDIS_LOGIN = r"""
username:
  description:
    - ACL user. It needs C(+ping +info +time), and C(+config|get +bgsave) for I(method=bgsave),
      C(+config|get +save) for C(save), C(+sync +replconf) for C(stream); no keys.
    - A restore needs C(+ping +info +config|get +client|list +client|id +select +exists +xinfo|stream +xinfo|groups +save)
      and all keys, beside what the smoke queries ask for.
  type: str
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
"""
_REDIS_DUMP = r"""
method:
  description:
    - C(bgsave), the default, copies what the server saves to its own data folder.
    - C(save) does so too, and blocks every client for the whole save.
    - C(stream) takes the data by replication, for servers whose data folder can not be read or has no room for a
      save. The server waits I(repl-diskless-sync-delay) (5 s) before it forks; set that to 0 on a server whose
      stack is quiesced.
  type: str
  choices: [bgsave, save, stream]
"""
_SMOKE = r"""
smoke_queries:
  description: Questions whose answers show that the data is right; without I(expect) any answer that is no error does.
  type: list
  elements: dict
  default: []
  suboptions:
    store:
      description: Name of the store that is asked.
      type: str
      required: true
    sql:
      description: SQL, for a Postgres store.
      type: str
    command:
      description: One command line, for a Redis store.
      type: str
    expect:
      description: The answer, as C(psql -At) or C(redis-cli) prints it.
      type: str
"""
_IDENTITY = r"""
age_identity:
  description:
    - Secret keys that decrypt encrypted backups, as text; one or more of C(AGE-SECRET-KEY-1…) and of SSH private keys
      without passphrase. Held in memory only; run with pipelining, else Ansible itself puts it into a file for a moment.
  type: str
age_identity_file:
  description:
    - File on this host that holds them, instead of I(age_identity). Whoever takes over the host then reads every backup.
  type: str
"""
_RESTORE = r"""
action:
  description:
    - C(restore) restores; a restore that was interrupted is first taken back.
    - C(back) undoes the last restore, interrupted or done, as long as the old data is kept.
    - C(drop) removes the old data that the last restore kept, C(expire) what all kept past its time.
  type: str
  choices: [restore, back, drop, expire]
  default: restore
confirm:
  description: The name of the stack again. Needed for every I(action) but C(expire), not in check mode.
  type: str
source_dir:
  description:
    - Folder of the recovery points where they are not in I(backup_dir), laid out as that one is. It is only read.
    - The safety backup, the lock and the restore's journal are in I(backup_dir); a way back needs that alone.
  type: str
source_stack:
  description: Name of the stack that the recovery points are of, where it is another one. Needs I(as_stack) then.
  type: str
as_stack:
  description: The name of I(stack) once more, for a restore from another stack's recovery points.
  type: str
dependents:
  description:
    - Services to stop while the data is switched.
    - By default all that C(depends_on) leads to the stores, at any distance; an empty list stops none.
  type: list
  elements: str
health_checks:
  description: Answers over HTTP, asked from the host, that show that the stack is well after the restore.
  type: list
  elements: dict
  default: []
  suboptions:
    url:
      description: Address, http or https.
      type: str
      required: true
    status:
      description: Status of the answer.
      type: int
      default: 200
    json:
      description: What the answer, as JSON, must at least say.
      type: dict
health_timeout:
  description: Seconds in which containers and answers must become healthy; after that the restore goes back.
  type: float
  default: 120
other_clients:
  description: What to do with clients that are still connected when the dependents have stopped.
  type: str
  choices: [end, refuse]
  default: end
safety_backup:
  description: Whether the live data is backed up first. Always done for I(restore_method=in_place).
  type: bool
  default: true
allow_empty:
  description: Whether a backup without any table or key may be restored.
  type: bool
  default: false
keep_previous:
  description: Hours for which the replaced data is kept, to go back to.
  type: float
  default: 72
window:
  description: C(from), C(to) (times such as C("02:00")) and C(timezone), outside of which no restore begins.
  type: dict
outside_window:
  description: Whether to restore outside the I(window).
  type: bool
  default: false
"""
_METHOD = r"""
restore_method:
  description:
    - C(side_by_side) fills a new database while the services run, then switches; needs room for both.
    - C(in_place) drops the live database after a safety backup; services are down for the whole restore.
  type: str
  choices: [side_by_side, in_place]
  default: side_by_side
restore_jobs:
  description: Processes of C(pg_restore); one for an encrypted backup, which is read as a stream.
  type: int
  default: 2
"""
_CHECK = r"""
stack:
  description: Name of the stack, as written into the manifests.
  type: str
  required: true
backup_dir:
  description: Folder of the backups.
  type: str
  required: true
state_dir:
  description: Folder of the jobs' records and of what the check remembers; C(/var/lib/stack-backup/<stack>) by default.
  type: str
schedule_file:
  description: Crontab of the stack's jobs, C(/etc/cron.d/stack-backup-<stack>) by default.
  type: str
jobs:
  description: Hours within which each job must have run, where the I(schedule_file) names it.
  type: dict
  default: {backup: 26, prune: 26, verify: 192}
max_age_hours:
  description: Age at which the newest complete recovery point is too old.
  type: float
  default: 26
max_drill_days:
  description: Age at which the last drill is too old; C(0) asks for none.
  type: float
  default: 8
min_size_share:
  description: Share of its predecessors' median below which a backup is too small.
  type: float
  default: 0.5
min_free_share:
  description: Share of the backups' disk that should be free.
  type: float
  default: 0.1
forecast_days:
  description: Days for which the disk should last at the growth of the last two weeks.
  type: float
  default: 7
digest_bytes:
  description:
    - Bytes of backups that each check reads to compare their digests; new ones first, then what was not read for longest.
    - A file that is larger is read when the checks have saved up its size.
  type: int
  default: 2147483648
offsite_remote:
  description: Where M(offsite_copy) copies to, as its I(remote); without it nobody asks for offsite copies.
  type: str
offsite_max_age_hours:
  description: Age at which the last copy, or a good recovery point that is not offsite yet, is too old.
  type: float
  default: 26
metrics_file:
  description: File for Prometheus's node exporter (textfile collector), C(*.prom); none by default.
  type: str
email:
  description: Whom to write to, by SMTP or by the local C(/usr/sbin/sendmail).
  type: dict
  suboptions:
    to:
      description: Addresses.
      type: list
      elements: str
      required: true
    from:
      description: Sender; the first of I(to) by default.
      type: str
    host:
      description: SMTP server. Its certificate is verified.
      type: str
    port:
      description: Port; 587 for C(starttls), 465 for C(tls), 25 for C(none) by default.
      type: int
    security:
      description: How the connection is encrypted.
      type: str
      choices: [none, starttls, tls]
      default: starttls
    user:
      description: User to log in as.
      type: str
    password_file:
      description: File that holds the password.
      type: str
    sendmail:
      description: Whether to hand mails to the local sendmail instead.
      type: bool
      default: false
webhooks:
  description: Addresses that are sent what happened, by POST.
  type: list
  elements: dict
  default: []
  suboptions:
    url:
      description: Address, http or https. This or I(url_file).
      type: str
    url_file:
      description: File that holds the address, for one with a token in it.
      type: str
    format:
      description: C(json) has every field, C(slack) is what Slack and those that speak its format take.
      type: str
      choices: [json, slack]
      default: json
pings:
  description:
    - Dead-man's switches as healthchecks.io has them, called by the host's command around each run of a job.
    - The address itself on success, C(/start) and C(/fail) below it otherwise, the latter with the log's last lines.
  type: list
  elements: dict
  default: []
  suboptions:
    url:
      description: Address, http or https. This or I(url_file).
      type: str
    url_file:
      description: File that holds the address.
      type: str
    job:
      description: Name of the job.
      type: str
      required: true
"""

_PRUNED = r"""
backup_dir:
  description: Folder of the backups.
  type: str
  required: true
stack:
  description: Name of the stack; backups of another one are not touched.
  type: str
  required: true
"""
_RETENTION = r"""
keep_last:
  description: How many of the newest good recovery points stay.
  type: int
  default: 0
keep_hourly:
  description: Of how many of the last hours that have a good recovery point the newest one stays.
  type: int
  default: 0
keep_daily:
  description: Of how many of the last days that have a good recovery point the newest one stays.
  type: int
  default: 7
keep_weekly:
  description: Of how many of the last ISO weeks that have a good recovery point the newest one stays.
  type: int
  default: 4
keep_monthly:
  description: Of how many of the last months that have a good recovery point the newest one stays.
  type: int
  default: 3
keep_yearly:
  description: Of how many of the last years that have a good recovery point the newest one stays.
  type: int
  default: 0
keep_within:
  description: All good points stay that were taken this long before the newest one; C(48h), C(14d), C(4w).
  type: str
timezone:
  description: Time zone of the hours, days, weeks, months and years.
  type: str
  default: UTC
keep_incomplete:
  description:
    - How long a point stays that is incomplete, damaged, or did not restore in its drill; no rule counts it.
    - Longer when no newer good point has the stores that it has.
  type: str
  default: 7d
keep_safety:
  description: How long the backup stays that a restore took of what it replaced; longer while that restore can go back.
  type: str
  default: 7d
max_age_hours:
  description: Nothing is removed when the newest good point is older than this; 0 never asks.
  type: float
  default: 26
min_share:
  description:
    - Nothing is removed when a store's newest backup is smaller than this share of the median of the seven before it.
    - 0 never asks.
  type: float
  default: 0.5
force:
  description: Remove although the newest point is incomplete, damaged, too old or suspiciously small.
  type: bool
  default: false
"""
_OFFSITE = r"""
stack:
  description: Name of the stack, as written into the manifests.
  type: str
  required: true
backup_dir:
  description: Folder of the backups. What is known of the remote is kept below it, in C(.offsite).
  type: str
  required: true
remote:
  description:
    - An rclone path, a section of C(rclone.conf) and what lies there, such as C(s3:bucket/trading). Each stack has its own.
    - Or a folder of this host, such as a mounted disk, with I(runner=host).
  type: str
  required: true
runner:
  description: Whether rclone runs in a container of the Compose project in I(config_dir), or is this host's own.
  type: str
  choices: [container, host]
  default: container
config_dir:
  description: Folder that holds C(rclone.conf), and C(compose.yml) with a service C(rclone) for I(runner=container).
  type: str
  required: true
bwlimit:
  description: Bandwidth, as C(rclone --bwlimit) takes it; no limit by default.
  type: str
transfers:
  description: How many files are copied at a time.
  type: int
  default: 4
retries:
  description: How often what fails is tried in all.
  type: int
  default: 3
timeout:
  description: Seconds after which the job is ended; the next one goes on from there.
  type: float
  default: 14400
"""


def _options(*groups: str) -> str:
    return "options:\n" + indent("".join(group.lstrip("\n") for group in groups), "  ")


def _kept_by_none(rules: str) -> str:
    """The same rules, of which none is given by default."""
    return re.sub(r"(keep_\w+:\n.*\n  type: int\n  default: )\d+", r"\g<1>0", rules)


_STORES = (
    r"""
stores:
  description: All stores of the stack.
  type: list
  elements: dict
  required: true
  suboptions:
"""
    + indent("".join((_STORE, _ENGINE, _POSTGRES_LOGIN, _POSTGRES_DUMP, _REDIS_LOGIN, _REDIS_DUMP)), "    ")
    + r"""
only:
  description: Names of the stores that are meant; all by default.
  type: list
  elements: str
  default: []
"""
)


class ModuleDocFragment:
    """``extends_documentation_fragment: [stack_backup.job, …]``"""

    JOB = _options(_JOB, _SIGN_KEY, _SIGNERS)
    LIMITS = _options(_LIMITS)
    STORES = _options(_STORES)
    POINT_ID = _options(_ID)
    CATALOG = _options(_CATALOG, _SIGNERS, _TIMEOUT)
    POINT = _options(_POINT)
    IDENTITY = _options(_IDENTITY)
    OFFSITE = _options(_OFFSITE, _SIGNERS)
    SIGNERS = _options(_SIGNERS)
    RETENTION = _options(_PRUNED, _RETENTION, _SIGN_KEY, _SIGNERS)
    OFFSITE_RETENTION = _options(_kept_by_none(_RETENTION))
    SMOKE = _options(_SMOKE)
    CHECK = _options(_CHECK, _SIGNERS)
    RESTORE = _options(_RESTORE, _IDENTITY)
    RESTORE_METHOD = _options(_METHOD)
    POSTGRES = _options(_STORE, _POSTGRES_LOGIN)
    POSTGRES_DUMP = _options(_POSTGRES_DUMP)
    REDIS = _options(_STORE, _REDIS_LOGIN)
    REDIS_DUMP = _options(_REDIS_DUMP)
