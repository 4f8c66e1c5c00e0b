"""Peak RAM, by what the user asked for: the volume, the journal, the recovered blocks."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from . import tables, workload
from .harness import Case, keep, row
from .workload import BLOCK, JOURNAL, VOLUME

ROOT = pathlib.Path(__file__).parent.parent
RECOVERED = np.unique(workload.offsets(0, JOURNAL // 2 // BLOCK, BLOCK)).size * BLOCK

ONE_MORE = "volume + two journals"  # at most one journal more than without them

CASES = {
    "write": ("every block written, journal wrapped", "volume + journal", VOLUME + JOURNAL),
    "recover": (
        "and half a journal of writes recovered",
        "volume + journal + blocks",
        VOLUME + JOURNAL + RECOVERED,
    ),
    "recoveries": ("beside 30 open recoveries", ONE_MORE, VOLUME + 2 * JOURNAL),
    "views": ("beside 100 open views", ONE_MORE, VOLUME + 2 * JOURNAL),
}


@pytest.mark.parametrize("job", CASES)
def test_peak_ram(benchmark, job):
    name, yardstick, asked_bytes = CASES[job]
    command = [sys.executable, "-m", "bench.peak_ram", job]
    done = benchmark.pedantic(
        subprocess.run,
        (command,),
        {"cwd": ROOT, "check": True, "capture_output": True, "text": True},
    )
    target = 1.0 if yardstick == ONE_MORE else None
    case = Case(tables.MEMORY, name, yardstick=yardstick, target=target)
    keep(benchmark, row(case, int(done.stdout), asked_bytes, unit="bytes"))
