"""Programs that use an archive, and are killed at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any


def started(code: str, options: dict[str, Any], *arguments: Any) -> subprocess.Popen[str]:
    """Begin a program; it finds the options of the archive in its environment."""
    under = {**os.environ, "OPTIONS": json.dumps(options)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True,
                            env=under, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def killed(process: subprocess.Popen[str], after: float, *, may_end: bool = False) -> list[str]:
    """Kill a process after so many seconds; return the lines that it has written till then.

    Where it may end by then, it has to end well.
    """
    time.sleep(after)
    ended = process.poll()
    assert ended is None or (may_end and not ended), process.stderr and process.stderr.read()
    process.kill()
    said, _ = process.communicate()
    return said.splitlines()
