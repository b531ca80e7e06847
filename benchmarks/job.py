"""A job of the engine in a process of its own, as the host's command runs it; or through the real Ansible module.

The module's parameters come on standard input as JSON, the report and the peak of memory go to standard output.
``python -m benchmarks.job engine|module MODULE [--check]``.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def by_engine(name: str, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The report of the function that the module calls."""
    from module_utils.stack_backup.modules import MODULES

    module = MODULES[name]
    return module.function(*module.positional(params, check_mode))


def by_module(name: str, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """What the module prints."""
    import ansible.module_utils
    from ansible.module_utils.testing import patch_module_args

    ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
    said = io.StringIO()
    given = {**params, "_ansible_check_mode": check_mode}
    with patch_module_args(given), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_path(str(ROOT / "library" / f"{name}.py"), run_name="__main__")
    answer: dict[str, Any] = json.loads(said.getvalue())
    if answer.get("failed"):
        raise RuntimeError(answer["msg"])
    return answer


def peak() -> int:
    """The most memory that this process held, in bytes.

    Not ru_maxrss: that begins with what the parent held at the fork. Source: proc(5), VmHWM.
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    run = {"engine": by_engine, "module": by_module}[sys.argv[1]]
    report = run(sys.argv[2], json.load(sys.stdin), "--check" in sys.argv)
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({"report": report, "peak": peak(), "child": child}))
