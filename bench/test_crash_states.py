"""Crash states of the recorded ext4 and SQLite history: how many a second, and what each costs."""

import lzma
import pathlib
import shutil
import subprocess

import pytest

import jrnl
from jrnl import crash

from . import tables, workload
from .harness import Case, clocked, keep, race, row, skip

pytestmark = pytest.mark.benchmark(disable_gc=True)

TRACE = pathlib.Path(__file__).parent.parent / "tests" / "data" / "ext4-sqlite.log.xz"
AFTER_MKFS = 1000  # by this entry the file system is made, and SQLite writes


@pytest.fixture
def history(tmp_path):
    log = tmp_path / "ext4-sqlite.log"
    log.write_bytes(lzma.decompress(TRACE.read_bytes()))
    with jrnl.logwrites.attach(log) as history:
        yield history


def by_hand(history, count):
    """What a rig does by itself: a copy of the base, and the writes that are there. Nanoseconds.

    Of `count` states, over a volume of the trace's size.
    """
    base = bytearray(history.size)
    history.view(AFTER_MKFS).readinto(0, base)
    entry = history.entries[AFTER_MKFS]
    content, offset = bytearray(int(entry["length"])), int(entry["offset"])
    history.content(AFTER_MKFS + 1, offset, content)

    def rebuild():
        for _ in range(count):
            state = bytearray(base)
            state[offset : offset + len(content)] = content

    return clocked(rebuild)


@pytest.mark.parametrize("mode", ["prefix", "subset", "torn"])
@pytest.mark.parametrize("summed", [False, True], ids=["", "fingerprint"])
def test_states(benchmark, history, mode, summed):
    limit = 500 if workload.SMALL else 200_000
    looked = []

    def walk():
        states = crash.states(history, start=AFTER_MKFS, mode=mode)
        for count, state in enumerate(states, 1):
            if summed:
                state.fingerprint()
            if count == limit:
                break
        looked.append(count)

    walk()  # how many there are
    name = f'states, `mode="{mode}"`' + (", each with its `fingerprint`" if summed else "")
    result = race(benchmark, Case(tables.CRASH_STATES, name, count=looked[0]), walk, rounds=5)
    if result:
        rate = row(Case(tables.CRASH_STATES, "the same"), 1e9 / result["value"], unit="/s")
        keep(benchmark, rate)


def test_states_by_hand(benchmark, history):
    count = 2 if workload.SMALL else 20
    case = Case(
        tables.CRASH_STATES, "a copy of the volume, and the writes that are there", count=count,
        instead=True,
    )  # fmt: skip
    keep(benchmark, row(case, by_hand(history, count) / count))
    benchmark.pedantic(lambda: None)


def test_checker(benchmark, history):
    """e2fsck on one state after the other, and as often on one image."""
    count = 2 if workload.SMALL else 100
    case = Case(
        tables.CRASH_STATES, "`e2fsck -fn` of each state's `path`", count=count, target=1 / 0.9,
        yardstick="`e2fsck -fn` of one image",
    )  # fmt: skip
    if shutil.which("e2fsck", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        skip(case, "needs e2fsck, of Debian's e2fsprogs")

    def check(path):
        words = ["/usr/sbin/e2fsck", "-fn", path]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def campaign():
        states = crash.states(history, start=AFTER_MKFS, mode="subset")
        for _, state in zip(range(count), states, strict=False):
            check(state.path())

    image = crash.state(history, str(AFTER_MKFS))
    path = image.path()
    race(
        benchmark,
        case,
        campaign,
        yardstick=lambda: clocked(lambda: [check(path) for _ in range(count)]),
        rounds=5,
    )
