#!/usr/bin/python
"""Install the host's own command."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_command
short_description: Install the host's own command
description:
  - Copies the engine that this module carries, and the command C(stack-backup) that runs it without Ansible.
  - The command is run by the Python that runs this module on the host.
options:
  path:
    description: Folder of the engine; it is replaced as a whole.
    type: str
    default: /opt/stack-backup
  link:
    description: Link to the command, in a folder that is on the users' PATH.
    type: str
    default: /usr/local/bin/stack-backup
  state:
    description: Whether it is there or not.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Tells whether it would change something.
    support: full
  diff_mode:
    description: Gives no diff.
    support: none
author:
  - stack-backup maintainers
"""

EXAMPLES = r"""
- name: Install the command stack-backup
  host_command:
    state: present
"""

RETURN = r"""
program:
  description: The command.
  returned: success
  type: str
  sample: /opt/stack-backup/bin/stack-backup
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_backup import arguments, edge, install


def main() -> None:
    """Hand the parameters to the engine."""
    module = AnsibleModule(argument_spec=arguments.HOST_COMMAND, supports_check_mode=True)
    edge.answer(module, lambda: install.install(module.params, module.check_mode))


if __name__ == "__main__":
    main()
