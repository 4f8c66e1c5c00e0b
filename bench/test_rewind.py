"""Rewind: a large volume put back after few blocks were written."""

import types

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .harness import Case, race
from .private_mapping import PrivateMapping
from .workload import BLOCK, GIB, MIB
from .yardstick import CLoop

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZE = 64 * MIB if workload.SMALL else 4 * GIB
JOURNAL = 64 * MIB
PRISTINE = SIZE // 8  # the volume's content repeats, so that its copy need not be as large
TARGETS = {100: 2.3, 1_000: 1.3, 10_000: 1.0}
ROUNDS = {100: 101, 1_000: 51, 10_000: 15}


@pytest.fixture(scope="module")
def rig():
    """A store, and the C loop at work on the store's own volume.

    Both dirty some blocks and put them back, so each leaves the volume as it found it; a second
    4 GiB volume for the loop would not fit, and would lie in other memory.
    """
    with jrnl.create(size=SIZE, journal=JOURNAL) as store:
        workload.warm(store.volume)
        array = store.volume.as_array()
        loop = CLoop(SIZE, JOURNAL, address=array.ctypes.data)
        pristine = array[:PRISTINE].copy()
        rows = workload.rows(1, BLOCK)
        yield types.SimpleNamespace(store=store, loop=loop, pristine=pristine, rows=rows)
        for at in range(0, SIZE, PRISTINE):
            assert np.array_equal(array[at : at + PRISTINE], pristine)


def undo(rig, offsets):
    """The yardstick: the loop dirties the blocks, then copies them back on the clock."""
    rig.loop.restart()
    rig.loop.write(offsets, rig.rows)
    return rig.loop.undo(offsets, BLOCK)


def dirty_blocks(count):
    return lambda number: (workload.distinct_offsets(number, count, BLOCK, SIZE),)


@pytest.mark.parametrize("count", TARGETS)
def test_rewind(benchmark, rig, count):
    case = Case(tables.REWIND, f"`rewind`, {count:,} dirty blocks", target=TARGETS[count])
    block = rig.rows.tobytes()
    points = []

    def dirty(offsets):
        points.append(rig.store.seq)
        for offset in offsets.tolist():
            rig.store.volume.write(offset, block)

    race(
        benchmark,
        case,
        lambda offsets: rig.store.rewind(points[-1]),
        prepare=dirty_blocks(count),
        yardstick=lambda offsets: undo(rig, offsets),
        arm=dirty,
        rounds=ROUNDS[count],
    )


@pytest.mark.parametrize("count", TARGETS)
def test_private_mapping(benchmark, rig, count):
    case = Case(tables.REWIND, f"MAP_PRIVATE + MADV_DONTNEED, {count:,} dirty blocks", instead=True)
    mapping = PrivateMapping(SIZE)
    pristine, dirt = workload.rows(2, BLOCK)
    dirt[0] = pristine[0] ^ 1  # the first byte of a block tells which content it has
    wrong = []
    try:
        race(
            benchmark,
            case,
            lambda offsets: wrong.append(mapping.go_back(offsets, int(pristine[0]))),
            prepare=dirty_blocks(count),
            yardstick=lambda offsets: undo(rig, offsets),
            arm=lambda offsets: mapping.dirty(offsets, pristine, dirt),
            rounds=min(ROUNDS[count], 25),
        )
    finally:
        mapping.close()
    assert not any(wrong)


def test_whole_copy(benchmark, rig):
    case = Case(tables.REWIND, "whole copy, 1,000 dirty blocks", instead=True)
    race(
        benchmark,
        case,
        lambda offsets: rig.loop.whole_copy(SIZE, rig.pristine),
        prepare=dirty_blocks(1_000),
        yardstick=lambda offsets: undo(rig, offsets),
        arm=lambda offsets: rig.loop.write(offsets, rig.rows),
    )
