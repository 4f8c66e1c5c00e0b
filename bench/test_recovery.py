"""Recovery of a long, skewed history back to its middle."""

import types

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .by_hand import undo_all
from .harness import Case, clocked, race
from .workload import BLOCK, MIB
from .yardstick import CLoop

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZE = 4 * MIB if workload.SMALL else 256 * MIB
JOURNAL = 24 * MIB if workload.SMALL else 1536 * MIB  # all of the history fits
COUNT = 3000 if workload.SMALL else 300_000
HALF = COUNT // 2
ROWS = 250  # a batch; it divides both halves


def first_after_the_middle(offsets):
    """The distinct blocks of the second half, and the ring block with the image that counts.

    In the journal's order: the ring is then read forwards, the faster of the two ways.
    """
    blocks, first = np.unique(offsets[HALF:], return_index=True)
    order = np.argsort(first)
    return blocks[order], (HALF + first[order]).astype(np.int64)


@pytest.fixture(scope="module")
def history():
    """The same history in a store and under the C loop, and the state at its middle."""
    with jrnl.create(size=SIZE, journal=JOURNAL) as store:
        volume = store.volume
        offsets, rows = workload.skewed_offsets(COUNT, BLOCK, SIZE), workload.rows(ROWS, BLOCK)
        workload.warm(volume)
        loop = CLoop(SIZE, COUNT * BLOCK)
        loop.volume[:] = volume.as_array()
        for at, some in enumerate(workload.batches(offsets, ROWS)):
            seq = volume.write_many(some, rows)
            loop.write(some, rows)
            if (at + 1) * ROWS == HALF:
                middle, expected = seq, loop.volume.copy()
        blocks, sources = first_after_the_middle(offsets)
        yield types.SimpleNamespace(
            store=store,
            loop=loop,
            offsets=offsets,
            middle=middle,
            expected=expected,
            blocks=blocks,
            sources=sources,
        )


def check(history, image):
    """Both did the same: the state at the middle, to the byte."""
    assert np.array_equal(image, history.expected)


def test_recover(benchmark, history):
    case = Case(tables.RECOVERY, "`recover`, image shares its base", target=1.0)
    image = workload.touch(workload.buffer(SIZE))
    image[:] = history.loop.volume
    opened = []

    def scatter():
        return history.loop.scatter(image, history.sources, history.blocks, BLOCK)

    race(
        benchmark,
        case,
        lambda: opened.append(history.store.recover(history.middle)),
        yardstick=scatter,
        disarm=lambda: opened.pop().close(),
    )
    check(history, image)


def copy_and_scatter(history):
    image = np.copy(history.loop.volume)
    history.loop.scatter(image, history.sources, history.blocks, BLOCK)
    return image


def test_recover_as_array(benchmark, history):
    case = Case(tables.RECOVERY, "`recover().as_array()`", target=1.2, yardstick="C loop on a copy")
    opened = []

    def recover_array():
        recovery = history.store.recover(history.middle)
        opened.append((recovery.as_array(), recovery))

    def close():
        image, recovery = opened.pop()
        if not checked:
            checked.append(check(history, image))
        del image
        recovery.close()

    checked = []
    race(
        benchmark,
        case,
        recover_array,
        yardstick=lambda: clocked(copy_and_scatter, history),
        disarm=close,
    )


def test_undo_by_hand(benchmark, history):
    case = Case(
        tables.RECOVERY,
        "memoryview slices, newest first onto a copy",
        yardstick="C loop on a copy",
        instead=True,
    )
    ring = memoryview(history.loop.ring)
    offsets = history.offsets[HALF:].tolist()
    images = []

    def undo():
        images.append(np.copy(history.loop.volume))
        undo_all(memoryview(images[-1]), ring, offsets, BLOCK)

    race(
        benchmark,
        case,
        undo,
        yardstick=lambda: clocked(copy_and_scatter, history),
        disarm=lambda: check(history, images.pop()),
    )
