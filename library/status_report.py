#!/usr/bin/python
"""Tell of all stacks at once: a table, a page, JSON."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_report
short_description: Tell of all stacks at once, as a table, a page and JSON
description:
  - Puts together what M(stack_status) told and M(stack_check) found of each stack. Runs on the control node.
  - The page is one file without scripts that loads nothing. It and the JSON are replaced whole, and keep the mode that they
    have; new ones are for their owner alone, as they name hosts, remotes and errors.
options:
  stacks:
    description: The stacks.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Name in the inventory.
        type: str
        required: true
      stack:
        description: Name of the stack, where it is another one.
        type: str
      reachable:
        description: Whether its host could be reached.
        type: bool
        default: true
      failure:
        description: What kept it from being looked at.
        type: str
        default: ""
      findings:
        description: Findings, as C(findings) of M(stack_check).
        type: list
        elements: dict
        default: []
      told:
        description: The answer of M(stack_status).
        type: dict
        default: {}
  page:
    description: Absolute path of the page; none by default.
    type: str
  json_file:
    description: Absolute path of the JSON; none by default.
    type: str
  title:
    description: Heading of the page.
    type: str
    default: Backups
attributes:
  check_mode:
    description: Gives the same answer, and writes no file.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Tell of one stack
  status_report:
    stacks:
      - host: trading
        told: "{{ status_result }}"
        findings: "{{ monitor_result.findings }}"
    page: /var/www/backups/index.html
  delegate_to: localhost
"""

RETURN = r"""
table:
  description: A line for each stack, the worst first.
  returned: always
  type: str
  sample: "STACK    VERDICT  NEWEST POINT\ntrading  ok       3.2 h\n1 stacks: 1 ok"
verdicts:
  description: By host, C(critical), C(unreachable), C(unknown), C(warning) or C(ok).
  returned: always
  type: dict
  sample: {trading: ok}
failures:
  description: By host, why the first three of these are what they are.
  returned: always
  type: dict
  sample: {trading: "point: there is no complete recovery point: run playbooks/backup.yml and see what it says"}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge
from ansible.module_utils.stack_backup_page import report


def main() -> None:
    """Hand the parameters to the report."""
    module = AnsibleModule(argument_spec=arguments.STATUS_REPORT, supports_check_mode=True)
    edge.answer(module, lambda: report(module.params, module.check_mode))


if __name__ == "__main__":
    main()
