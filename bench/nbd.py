"""NBD servers as processes of their own, and fio as their client."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from typing import NamedTuple

OURS = """
import os, sys
import jrnl, jrnl.nbd
path, size, journal, unix = sys.argv[1:]
with jrnl.create(path or None, size=size, journal=journal) as store:
    with jrnl.nbd.serve(store, unix=unix):
        sys.stdin.read()
"""


class Served(NamedTuple):
    """What fio has measured: nanoseconds a request, and of processor time, both sides together."""

    wall_ns: float
    processor_ns: float


def ours(unix, size, journal, path=""):
    return [sys.executable, "-c", OURS, str(path), str(size), str(journal), str(unix)]


def nbdkit(unix, size, *filters):
    return ["nbdkit", "--foreground", "--unix", str(unix), *filters, "memory", str(size)]


def qemu_nbd(unix, image):
    return [
        "qemu-nbd",
        "--persistent",
        "--format=raw",
        f"--socket={unix}",
        "--shared=8",
        str(image),
    ]


@contextlib.contextmanager
def server(command, unix):
    """Run a server until the block ends, from when its socket is there."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not unix.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise OSError(f"{command[0]} has not begun to listen")
            time.sleep(0.01)
        yield process
    finally:
        process.stdin.close()
        if command[0] != sys.executable:
            process.terminate()
        process.wait()
        unix.unlink(missing_ok=True)


def fio(unix, kind, size, *options):
    """Run fio; return its job's report, and the processor seconds that it took itself."""
    command = ["fio", "--name=bench", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={unix}"]
    command += [
        f"--rw={kind}",
        f"--size={size}",
        "--randrepeat=1",
        "--output-format=json",
        *options,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0], own


def measure(process, unix, kind, size, *options):
    """Let fio work on a server; return what a request takes."""
    before = processor_s(process.pid)
    job, own = fio(unix, kind, size, *options)
    served = processor_s(process.pid) - before
    done = job["write" if "write" in kind else "read"]
    count = done["total_ios"]
    return Served(done["runtime"] * 1e6 / count, (served + own) * 1e9 / count)


def processor_s(pid):
    """User and system seconds of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
