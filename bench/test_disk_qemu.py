"""Beside QEMU's blklogwrites, a driver that logs the writes of a virtual disk for later replay."""

import re
import shutil
import subprocess

import pytest

from . import tables, workload
from .harness import Case, race, skip
from .on_disk import LAST_FLUSH, PlainFile, filled_store, folder
from .workload import BLOCK, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

COUNT = 64 if workload.SMALL else 16 << 10
STRIDE = (VOLUME // BLOCK * 5 // 8 + 1 | 1) * BLOCK  # odd: it comes by each block once
ROUNDS = 3


def pattern(count):
    """The offsets of `qemu-img bench -S STRIDE`."""
    return [number * STRIDE % VOLUME for number in range(count)]


def qemu_bench(image, log, depth, flush):
    """The nanoseconds of one `qemu-img bench`, as it reports them."""
    options = f"driver=blklogwrites,file.driver=file,file.filename={image}"
    options += f",log.driver=file,log.filename={log}"
    command = ["qemu-img", "bench", "-w", "-c", str(COUNT), "-d", str(depth)]
    command += ["-s", str(BLOCK), "-S", str(STRIDE)]
    command += [f"--flush-interval={flush}"] if flush else []
    log.write_bytes(b"")
    done = subprocess.run(
        [*command, "--image-opts", options], check=True, capture_output=True, text=True
    )
    return float(re.search(r"in ([0-9.]+) seconds", done.stdout)[1]) * 1e9


@pytest.mark.parametrize("flush", [0, 64], ids=["no flush", "flush"])
@pytest.mark.parametrize("depth", [1, 32])
def test_blklogwrites(benchmark, depth, flush):
    case = Case(
        tables.DISK_WRITES,
        f"`write` in strides{f', a `flush` every {flush}' if flush else ''}; depth {depth}",
        COUNT,
        yardstick=f"blklogwrites, depth {depth}",
        killed=LAST_FLUSH if flush else "all but the open group",
        power=LAST_FLUSH if flush else "all but the open group",
    )
    if shutil.which("qemu-img") is None:
        skip(case, "qemu-img (Debian: qemu-utils) is not installed")
    block, offsets = workload.rows(1, BLOCK).tobytes(), pattern(COUNT)
    with folder() as place, filled_store(place / "store") as store:
        PlainFile(place / "image", VOLUME).close()

        def ours(write=store.volume.write):
            for number, offset in enumerate(offsets, 1):
                write(offset, block)
                if flush and number % flush == 0:
                    store.flush()

        race(
            benchmark,
            case,
            ours,
            yardstick=lambda: qemu_bench(place / "image", place / "log", depth, flush),
            rounds=ROUNDS,
        )
