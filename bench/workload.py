"""The work that every case does: sizes, offsets, data. All of it is seeded."""

import os

import numpy as np

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# JRNL_BENCH_SMALL=1 runs the same code on tiny sizes: a smoke test, its figures mean nothing.
SMALL = os.environ.get("JRNL_BENCH_SMALL") == "1"

BLOCK = 4 * KIB
BATCH = 64 if SMALL else 256  # blocks of one write_many
VOLUME = 16 * MIB if SMALL else GIB
JOURNAL = 4 * MIB if SMALL else 256 * MIB
WRITES = 1024 if SMALL else 32 * KIB  # 4 KiB writes of a round: 128 MiB, several times the caches

DISK_JOURNAL = 8 * MIB if SMALL else 512 * MIB
DISK_OVERLAY = MIB if SMALL else 64 * MIB

HUGE_PAGE = 2 * MIB


def buffer(size_bytes):
    """An untouched uint8 array on a huge page's boundary.

    numpy asks for huge pages by itself; with the alignment the yardstick's copies cross no more
    pages and cache lines than the engine's do.
    """
    spare = np.empty(size_bytes + HUGE_PAGE, np.uint8)
    start = -spare.ctypes.data % HUGE_PAGE
    return spare[start : start + size_bytes]


def rows(count, length, seed=1):
    """`count` different blocks without a zero byte: zeroes may cost an engine less."""
    return np.random.default_rng(seed).integers(1, 256, (count, length), dtype=np.uint8)


def touch(array):
    """Fill with something that is neither zero nor compressible, so that every page is there."""
    pattern = rows(1, MIB, seed=2)[0]
    for at in range(0, array.size, MIB):
        array[at : at + MIB] = pattern[: array.size - at]
    return array


def offsets(round_number, count, length, volume_bytes=VOLUME):
    """`count` random offsets of blocks of `length`, the same for every contestant of a round."""
    random = np.random.default_rng((3, round_number))
    return random.integers(0, volume_bytes // length, count, dtype=np.int64) * length


def distinct_offsets(round_number, count, length, volume_bytes):
    """As `offsets`, no block twice."""
    random = np.random.default_rng((4, round_number))
    return random.choice(volume_bytes // length, count, replace=False).astype(np.int64) * length


def skewed_offsets(count, length, volume_bytes, exponent=0.99):
    """Zipf-like: the block of rank r is written in proportion to 1 / r**exponent."""
    blocks = volume_bytes // length
    random = np.random.default_rng(5)
    share = np.cumsum(1.0 / np.arange(1, blocks + 1) ** exponent)
    rank = np.searchsorted(share / share[-1], random.random(count))
    return random.permutation(blocks)[rank].astype(np.int64) * length


def batches(array, size=BATCH):
    """`array` cut into views of `size`."""
    return [array[at : at + size] for at in range(0, len(array), size)]


def warm(volume):
    """Write a volume of jrnl once over: every page is there, and where the volume is larger than
    the journal's images every 4 KiB write now evicts."""
    data = rows(BATCH, BLOCK, seed=2)
    for some in batches(np.arange(0, volume.size, BLOCK, dtype=np.int64)):
        volume.write_many(some, data[: len(some)])


def warm_small(volume, journal_bytes, length, volume_bytes=None):
    """After `warm`: make small writes evict too. What they fill first is the journal's header
    slots, 64 bytes each and an eighth of it together. They go into the first `volume_bytes`."""
    many = rows(4 * KIB, length)
    for number in range(journal_bytes // 8 // 64 // len(many) + 1):
        volume.write_many(offsets(number, len(many), length, volume_bytes or volume.size), many)


def evicting(volume, length=64):
    """Every page is there, and all header slots have been used once, whatever the length is."""
    warm(volume)
    warm_small(volume, JOURNAL, min(length, 64))
    warm(volume)


def way_of_writing(batch):
    """What writes of one block each, or in batches of so many, are called in the tables."""
    return "`write`, by the call" if batch == 1 else f"`write_many`, {batch} a batch"


def cut(offsets, batch):
    """What `writing` takes for these offsets."""
    return offsets.tolist() if batch == 1 else batches(offsets, batch)


def writing(batch):
    """A function that writes blocks at what `cut` gives for offsets in a volume."""
    data = rows(batch, BLOCK)
    block = data[0].tobytes()

    def write_each(volume, offsets):
        for offset in offsets:
            volume.write(offset, block)

    def write_batches(volume, offsets):
        for some in offsets:
            volume.write_many(some, data)

    return write_each if batch == 1 else write_batches


def open_many(store, kind, count):
    """`count` recoveries (or views), the oldest first: each of what production is by then, while as
    much is written as the window holds."""
    oldest, newest = store.window
    data, opened = rows(BATCH, BLOCK), []
    for some in np.array_split(offsets(9, newest - oldest, BLOCK, store.volume.size), count):
        opened.append(getattr(store, kind)(store.seq))
        for part in batches(some):
            store.volume.write_many(part, data[: len(part)])
    return opened
