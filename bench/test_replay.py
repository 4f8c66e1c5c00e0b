"""A recorded ext4 and SQLite history, a dm-log-writes log: replayed, and looked into in place."""

import contextlib
import json
import lzma
import pathlib
import types

import pytest

import jrnl

from . import tables
from .harness import Case, clocked, keep, race

pytestmark = pytest.mark.benchmark(disable_gc=True)

TRACE = pathlib.Path(__file__).parent.parent / "tests" / "data" / "ext4-sqlite.log.xz"


@pytest.fixture
def recorded(tmp_path):
    """The log, unpacked, how many entries it has, and the size of its volume."""
    log = tmp_path / "ext4-sqlite.log"
    log.write_bytes(lzma.decompress(TRACE.read_bytes()))
    facts = json.loads(TRACE.with_name("ext4-sqlite.json").read_text())
    return types.SimpleNamespace(log=log, entries=facts["entries"], size=facts["volume_size"])


def replayed(recorded):
    """A store that the log was just replayed onto."""
    store = jrnl.create(size=recorded.size, journal="64MiB")
    jrnl.logwrites.replay(recorded.log, store.volume)
    return store


def replay_anew(recorded):
    """What it takes to have the log's last state by replaying it from zero, in nanoseconds."""
    with jrnl.create(size=recorded.size, journal="64MiB") as store:
        return clocked(jrnl.logwrites.replay, recorded.log, store.volume)


def test_replay(benchmark, recorded):
    case = Case(tables.REPLAY, f"`logwrites.replay`, {recorded.entries:,} entries")
    stores = []

    def replay():
        jrnl.logwrites.replay(recorded.log, stores[-1].volume)

    result = race(
        benchmark,
        case,
        replay,
        arm=lambda: stores.append(jrnl.create(size=recorded.size, journal="64MiB")),
        disarm=lambda: stores.pop().close(),
    )
    if result:
        speed = recorded.log.stat().st_size / 1e6 / (result["value"] / 1e9)
        log_speed = result | {"name": "the same, of log", "value": speed, "unit": "MB/s"}
        keep(benchmark, log_speed)


def test_attach(benchmark, recorded):
    case = Case(tables.REPLAY, "`logwrites.attach`", target=1.0, yardstick="replay")
    histories = []
    race(
        benchmark,
        case,
        lambda: histories.append(jrnl.logwrites.attach(recorded.log, recorded.size)),
        yardstick=lambda: replay_anew(recorded),
        disarm=lambda: histories.pop().close(),
    )


def test_going_back(benchmark, recorded):
    """From each state to the one before it, where a replayer begins again."""
    with jrnl.logwrites.attach(recorded.log, recorded.size) as history:
        image = history.recover(history.seq)
        image.path()

        def go_back():
            for seq in range(history.seq - 1, -1, -1):
                image.seek(seq)

        case = Case(
            tables.REPLAY,
            "one state back, an image's file with it",
            count=recorded.entries,
            target=0.05,
            yardstick="replay from zero",
        )
        race(
            benchmark,
            case,
            go_back,
            yardstick=lambda: recorded.entries * replay_anew(recorded),
            disarm=lambda: image.seek(history.seq),
        )


def test_reading(benchmark, recorded):
    """4 KiB of one state after the other, the newest first, at what the log wrote."""
    with contextlib.ExitStack() as stack:
        history = stack.enter_context(jrnl.logwrites.attach(recorded.log, recorded.size))
        store = stack.enter_context(replayed(recorded))
        last = recorded.size - 4096
        offsets = [min(offset, last) for offset in history.entries["offset"].tolist()]
        buffer = bytearray(4096)

        def read_back():
            for seq, offset in zip(range(history.seq, 0, -1), reversed(offsets), strict=True):
                with history.view(seq) as view:
                    view.readinto(offset, buffer)

        def read_production():
            for offset in reversed(offsets):
                store.volume.readinto(offset, buffer)

        case = Case(
            tables.REPLAY,
            "a view of each state, and `readinto` of 4 KiB, going back",
            count=recorded.entries,
            yardstick="`readinto` of production",
        )
        race(benchmark, case, read_back, yardstick=lambda: clocked(read_production))
