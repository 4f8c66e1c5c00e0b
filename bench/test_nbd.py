"""The NBD server beside others, by fio: 4 KiB requests, 16 under way, over a Unix socket.

Each round measures all servers in turn. In memory the yardstick is nbdkit's memory plugin, in C and
without a journal; on disk qemu-nbd on a raw file.
"""

import contextlib
import shutil
import statistics

import pytest

from . import nbd, tables, workload
from .harness import Case, keep, row, skip
from .on_disk import folder
from .workload import DISK_JOURNAL, JOURNAL, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

ROUNDS = 1 if workload.SMALL else 5
MILLISECONDS = 50 if workload.SMALL else 3000
AIM = 1 / 1.4
NEEDED = {"fio": "fio", "nbdkit": "nbdkit", "qemu-nbd": "qemu-utils"}


def options(depth, *more):
    return ["--bs=4k", f"--iodepth={depth}", "--time_based", f"--runtime={MILLISECONDS}ms", *more]


def check_there(case, *programs):
    for program in programs:
        if shutil.which(program) is None:
            skip(case, f"{program} (Debian: {NEEDED[program]}) is not installed")


def raced(benchmark, commands, kind, *more, fill=True):
    """Measure servers in turn, each filled before; return the rounds of each."""
    rounds = {name: [] for name in commands}
    with folder() as place, contextlib.ExitStack() as stack:
        running = {}
        for k, (name, command) in enumerate(commands.items()):
            unix = place / f"socket{k}"
            running[name] = stack.enter_context(nbd.server(command(place, unix), unix)), unix
            if fill:
                nbd.fio(unix, "write", VOLUME, "--bs=1m", "--iodepth=4")

        def one_round():
            for name, (process, unix) in running.items():
                rounds[name].append(nbd.measure(process, unix, kind, VOLUME, *more))

        benchmark.pedantic(one_round, rounds=ROUNDS)
    return rounds


def keep_rows(benchmark, table, name, rounds, yardstick, targets):
    """Keep a row for the time a request takes, and one for the processor's."""
    ours, theirs = rounds["jrnl"], rounds[yardstick]
    for what, field, target in targets:
        mine, yards = ([getattr(lap, field) for lap in laps] for laps in (ours, theirs))
        case = Case(table, f"{name}: {what}", yardstick=yardstick, target=target)
        pairs = [one / other for one, other in zip(mine, yards, strict=True)]
        keep(benchmark, row(case, statistics.median(mine), statistics.median(yards), pairs))


@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("kind", ["write", "read"])
def test_in_memory(benchmark, kind, depth):
    name = f"random 4 KiB {kind}s, {depth} under way"
    check_there(Case(tables.NBD, name), "fio", "nbdkit")
    commands = {
        "jrnl": lambda _, unix: nbd.ours(unix, VOLUME, JOURNAL),
        "nbdkit memory": lambda _, unix: nbd.nbdkit(unix, VOLUME),
    }
    rounds = raced(benchmark, commands, f"rand{kind}", *options(depth))
    first, aim = (1.0, AIM) if (kind, depth) == ("write", 16) else (None, None)
    keep_rows(benchmark, tables.NBD, name, rounds, "nbdkit memory",
              [("time", "wall_ns", first), ("processor", "processor_ns", aim)])  # fmt: skip


def test_beside_a_copy_on_write_filter(benchmark):
    name = "random 4 KiB writes, 16 under way, a filter that keeps what was there"
    check_there(Case(tables.NBD, name), "fio", "nbdkit")
    commands = {
        "jrnl": lambda _, unix: nbd.ours(unix, VOLUME, JOURNAL),
        "nbdkit cow": lambda _, unix: nbd.nbdkit(unix, VOLUME, "--filter=cow"),
    }
    rounds = raced(benchmark, commands, "randwrite", *options(16))
    keep_rows(benchmark, tables.NBD, name, rounds, "nbdkit cow",
              [("time", "wall_ns", None), ("processor", "processor_ns", None)])  # fmt: skip


@pytest.mark.parametrize("flush", [0, 16], ids=["no flush", "flush"])
def test_on_disk(benchmark, flush):
    name = (
        f"random 4 KiB writes{f', a flush every {flush}' if flush else ''}, 16 under way, on disk"
    )
    check_there(Case(tables.NBD, name), "fio", "qemu-nbd")

    def raw(place, unix):
        with open(place / "image", "wb") as file:
            file.truncate(VOLUME)
        return nbd.qemu_nbd(unix, place / "image")

    commands = {
        "jrnl": lambda place, unix: nbd.ours(unix, VOLUME, DISK_JOURNAL, place / "store"),
        "qemu-nbd, a raw file": raw,
    }
    more = [f"--fsync={flush}"] if flush else []
    rounds = raced(benchmark, commands, "randwrite", *options(16, *more))
    keep_rows(benchmark, tables.NBD, name, rounds, "qemu-nbd, a raw file",
              [("time", "wall_ns", 1 / 3), ("processor", "processor_ns", None)])  # fmt: skip
