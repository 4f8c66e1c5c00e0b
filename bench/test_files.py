"""Small writes through a file object: `Volume.write` of the same bytes is the yardstick."""

import io

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import JOURNAL, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

TARGET = 3.0
LENGTH = 100
DATA = bytes(range(LENGTH))


@pytest.fixture(scope="module")
def store():
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.evicting(store.volume)
        yield store


def case(name, target=TARGET, yardstick="`write`"):
    return Case(tables.FILES, name, WRITES, target=target, yardstick=yardstick)


def write_each(volume, offsets):
    write = volume.write
    for offset in offsets:
        write(offset, DATA)


def one_after_the_other(file, offsets):
    file.seek(offsets[0])
    write = file.write
    for _ in offsets:
        write(DATA)
    file.seek(0)  # a buffered one writes what it has


def here_and_there(file, offsets):
    seek, write = file.seek, file.write
    for offset in offsets:
        seek(offset)
        write(DATA)
    seek(0)


def in_a_row(number):
    """Places one behind the other, in another part of the volume each round."""
    span = WRITES * LENGTH
    start = number % max(1, (VOLUME - span) // span) * span
    return (range(start, start + span, LENGTH),)


def anywhere(number):
    return (workload.offsets(number, WRITES, 1, VOLUME - LENGTH).tolist(),)


@pytest.mark.parametrize("of", [io.BufferedWriter, io.BufferedRandom])
def test_buffered_one_after_the_other(benchmark, store, of):
    file = of(store.volume.as_file())
    race(
        benchmark,
        case(f"`io.{of.__name__}`, one after the other"),
        lambda offsets: one_after_the_other(file, offsets),
        prepare=in_a_row,
        yardstick=lambda offsets: clocked(write_each, store.volume, offsets),
    )


def test_unbuffered_one_after_the_other(benchmark, store):
    file = store.volume.as_file()
    race(
        benchmark,
        case("unbuffered, one after the other"),
        lambda offsets: one_after_the_other(file, offsets),
        prepare=in_a_row,
        yardstick=lambda offsets: clocked(write_each, store.volume, offsets),
    )


def test_unbuffered_here_and_there(benchmark, store):
    file = store.volume.as_file()
    race(
        benchmark,
        case("unbuffered, a `seek` before each"),
        lambda offsets: here_and_there(file, offsets),
        prepare=anywhere,
        yardstick=lambda offsets: clocked(write_each, store.volume, offsets),
    )


def test_buffered_here_and_there(benchmark, store):
    """Each `seek` empties the buffer: what that costs over memory without a journal is shown."""
    file = io.BufferedRandom(store.volume.as_file())
    plain = io.BufferedRandom(io.BytesIO(bytes(VOLUME)))
    race(
        benchmark,
        case(
            "`io.BufferedRandom`, a `seek` before each",
            target=None,
            yardstick="the same over `io.BytesIO`",
        ),
        lambda offsets: here_and_there(file, offsets),
        prepare=anywhere,
        yardstick=lambda offsets: clocked(here_and_there, plain, offsets),
    )
