"""A life that ends in SIGKILL: `python -m bench.crash STORE COUNT` leaves a tail in the log."""

import os
import pathlib
import signal
import sys

import jrnl

from . import workload
from .workload import BLOCK, MIB

ROOT = pathlib.Path(__file__).parent.parent
OVERLAY = MIB * (8 if workload.SMALL else 512)  # nothing is written back before the end


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    store = jrnl.open(path, overlay=OVERLAY)
    block = workload.rows(1, BLOCK).tobytes()
    volume = store.volume
    for offset in workload.offsets(0, count, BLOCK, volume.size).tolist():
        volume.write(offset, block)
    store.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
