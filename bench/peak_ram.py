"""Peak RAM of one job, measured in a process of its own: `python -m bench.peak_ram JOB`.

Prints the bytes by which the job raised the process's peak over what it had after its imports.
"""

import functools
import sys

import jrnl

from . import workload
from .workload import BLOCK, JOURNAL, VOLUME


def peak_bytes():
    """VmHWM, the peak resident set. It begins anew with exec, which ru_maxrss does not."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    raise OSError("/proc/self/status has no VmHWM")


def write():
    """The whole volume written, the journal wrapped several times."""
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)


def recover():
    """The same, then the oldest state of the window recovered, its image left as it is."""
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)
        before = store.window.newest
        block = workload.rows(1, BLOCK).tobytes()
        for offset in workload.offsets(0, JOURNAL // 2 // BLOCK, BLOCK).tolist():
            store.volume.write(offset, block)
        store.recover(before).close()


def beside(kind, count):
    """As many recoveries or views open, of states all over the window, which then moves on."""
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)
        opened = workload.open_many(store, kind, count)
        oldest, newest = store.window
        block = workload.rows(1, BLOCK).tobytes()
        for offset in workload.offsets(0, newest - oldest, BLOCK).tolist():
            store.volume.write(offset, block)
        for each in opened:
            each.close()


JOBS = {
    "write": write,
    "recover": recover,
    "recoveries": functools.partial(beside, "recover", 30),
    "views": functools.partial(beside, "view", 100),
}


def main():
    start = peak_bytes()
    JOBS[sys.argv[1]]()
    print(peak_bytes() - start)


if __name__ == "__main__":
    main()
