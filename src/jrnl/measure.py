"""A short measurement: what the engine costs on this machine, beside the same copies by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np

from jrnl.api import create
from jrnl.sizes import as_int
from jrnl.store import Store

_VOLUME_BYTES: Final = 256 << 20
_RING_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 4096
_WRITES: Final = 4000  # in a round
_BATCH: Final = 200
_DIRTY: Final = 1000

Row = dict[str, Any]
Timed = Callable[[], float]  # seconds


def measure(rounds: int = 7, progress: Callable[[int, int], object] | None = None) -> list[Row]:
    """Time writes of random 4 KiB blocks and going back, in memory, and the same by hand.

    By hand is NumPy: the old block is copied into a ring, then the new one over it, without
    headers or checksums; going back is a copy of the whole volume. Both are done in turn, in a
    volume of 256 MiB whose pages are all there.

    Parameters
    ----------
    rounds : int
    progress : callable, optional
        Called as ``progress(done, total)``, in rounds.

    Returns
    -------
    list of dict
        ``what``, ``jrnl_ns`` and ``by_hand_ns`` (medians of nanoseconds, a block or a time),
        ``ratio``, the median of the ratios of each round.
    """
    total = as_int(rounds, "rounds must be an int")
    with create(size=_VOLUME_BYTES, journal=_RING_BYTES) as store:
        cases = _cases(store)
        taken: list[list[tuple[float, float]]] = [[] for _ in cases]
        for done in range(total + 1):
            pairs = [(mine(), other()) for _, _, mine, other in cases]
            for pair, times in zip(pairs, taken, strict=True):
                if done:  # the first round faults pages in
                    times.append(pair)
            if progress is not None:
                progress(done, total)
    return [
        {
            "what": what,
            "jrnl_ns": median(mine for mine, _ in times) * 1e9 / count,
            "by_hand_ns": median(other for _, other in times) * 1e9 / count,
            "ratio": median(mine / other for mine, other in times),
        }
        for (what, count, _, _), times in zip(cases, taken, strict=True)
    ]


def _cases(store: Store) -> list[tuple[str, int, Timed, Timed]]:
    random = np.random.default_rng(3)
    blocks = _VOLUME_BYTES // _BLOCK_BYTES
    data = np.frombuffer(random.bytes(_BATCH * _BLOCK_BYTES), np.uint8).reshape(_BATCH, -1)
    volume = store.volume
    volume.write_many(np.arange(0, _VOLUME_BYTES, 1 << 20), np.ones((256, 1 << 20), np.uint8))
    plain, copy = (np.ones(_VOLUME_BYTES, np.uint8) for _ in range(2))
    ring = np.ones((_RING_BYTES // _BLOCK_BYTES, _BLOCK_BYTES), np.uint8)

    def offsets(count: int) -> Any:
        return random.permutation(blocks)[:count] * _BLOCK_BYTES

    def one_by_one() -> float:
        places, block, write = offsets(_WRITES).tolist(), data[0], volume.write
        start = time.perf_counter()
        for offset in places:
            write(offset, block)
        return time.perf_counter() - start

    def by_hand() -> float:
        places, block = offsets(_WRITES).tolist(), data[0]
        start = time.perf_counter()
        for k, offset in enumerate(places):
            ring[k] = plain[offset : offset + _BLOCK_BYTES]
            plain[offset : offset + _BLOCK_BYTES] = block
        return time.perf_counter() - start

    def batches() -> float:
        places = offsets(_WRITES)
        start = time.perf_counter()
        for first in range(0, _WRITES, _BATCH):
            volume.write_many(places[first : first + _BATCH], data)
        return time.perf_counter() - start

    def batches_by_hand() -> float:
        places, table = offsets(_WRITES) // _BLOCK_BYTES, plain.reshape(blocks, -1)
        start = time.perf_counter()
        for first in range(0, _WRITES, _BATCH):
            mine = places[first : first + _BATCH]
            ring[first : first + _BATCH] = table[mine]
            table[mine] = data
        return time.perf_counter() - start

    def back() -> float:
        before = store.seq
        for _ in range(0, _DIRTY, _BATCH):
            volume.write_many(offsets(_BATCH), data)
        start = time.perf_counter()
        store.rewind(before)
        return time.perf_counter() - start

    def copied_back() -> float:
        start = time.perf_counter()
        np.copyto(plain, copy)
        return time.perf_counter() - start

    return [
        ("write 4 KiB, a block", _WRITES, one_by_one, by_hand),
        (f"write_many of {_BATCH}, a block", _WRITES, batches, batches_by_hand),
        (f"back over {_DIRTY:,} blocks of 256 MiB, a time", 1, back, copied_back),
    ]
