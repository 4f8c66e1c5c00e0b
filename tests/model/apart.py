"""Programs in a process of their own: what they hold is not what other tests have left."""

from __future__ import annotations

import os
import subprocess
import sys

BYTES_HELD = """
import gc

def bytes_held():
    gc.collect()
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
"""


def run_apart(program: str, *arguments: object) -> str:
    """Run a program that may call ``bytes_held()``; return what it prints.

    On a sanitized build, what is freed goes at once there, too.
    """
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=0"
    return subprocess.run(
        [sys.executable, "-c", BYTES_HELD + program, *map(str, arguments)],
        env={**os.environ, "ASAN_OPTIONS": options},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
