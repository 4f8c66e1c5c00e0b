"""Checking a store: what is read, and held against what, two ways where there are two."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jrnl._core import ExtentMap, Image
from jrnl.compare import ranges_of_blocks, united
from jrnl.errors import JrnlError
from jrnl.pieces import pieces_within
from jrnl.plan import AFTER, BEFORE
from jrnl.snapshot import Report, problems_of
from jrnl.steady import steadily
from jrnl.window import present_seq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.snapshot import Snapshot
    from jrnl.volume import Volume

    Volumes = Mapping[str, Volume]


def verify(
    catalog: Catalog,
    volumes: Volumes,
    problems: list[str],
    progress: Callable[[int, int], object] | None,
) -> Report:
    """Read everything, and check it; see `Store.verify`. The caller holds the lock."""
    engine, snapshots = catalog.engine, [*catalog.snapshots.values()]

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, engine.entry_count + len(snapshots))

    def problems_now(snapshot: Snapshot) -> list[str]:
        if catalog.snapshots.get(snapshot.name) is not snapshot:
            return []  # deleted meanwhile
        return problems_of(snapshot) + compare_ways(engine, snapshot, volumes)

    problems += entries_problems(engine, tell)
    for k, snapshot in enumerate(snapshots):
        problems += steadily(engine, partial(problems_now, snapshot))
        tell(engine.entry_count + k + 1)
    problems += steadily(engine, partial(compare_newest, engine, volumes))
    read, unread = read_production(engine, volumes)
    problems += unread
    tell(engine.entry_count + len(snapshots))
    return Report(not problems, problems, engine.entry_count, len(snapshots), read)


def entries_problems(engine: Engine, progress: Callable[[int], object]) -> list[str]:
    """Hold every retained entry and its images against their checksums."""
    problems = []
    for k in range(engine.entry_count):
        if k >= engine.entry_count:  # `progress` has rewound
            break
        problem = engine.verify_entry(k)[1]
        if problem is not None:
            problems.append(problem)
        if k % 1024 == 0:
            progress(k)
    return problems


def read_production(engine: Engine, volumes: Volumes) -> tuple[int, list[str]]:
    """Read what production holds; return how many bytes, and what could not be read."""
    problems: list[str] = []
    total = 0
    image = Image.production(engine)
    for name, volume in volumes.items():
        blocks = engine.data_blocks(volume._index)
        for offset, length in pieces_within(united(ranges_of_blocks(blocks, volume.size))):
            try:
                image.read(offset, length, volume._index)
            except JrnlError as error:
                problems.append(f"volume {name!r} near byte {offset}: {error}")
            total += length
    return total, problems


def compare_newest(engine: Engine, volumes: Volumes) -> list[str]:
    """Compare production with the newest after-images: its file may have been changed."""
    if not engine.images & AFTER:
        return []
    try:
        onward = ExtentMap.forward(engine, engine.base_seq, engine.seq)
        newest = Image.patched(Image.production(engine), onward, engine.seq, False)
        return [
            f"volume {name!r} near byte {start} is not what the journal says was written there"
            for name, volume in volumes.items()
            for start in _unequal_pieces(newest, Image.production(engine), volume)
        ]
    except JrnlError:  # told of already: an entry, or production itself
        return []


def compare_ways(engine: Engine, snapshot: Snapshot, volumes: Volumes) -> list[str]:
    """Rebuild a snapshot's state from production, and production from it, and compare."""
    pairs: list[tuple[Image, Image]] = []
    try:
        seq = present_seq(engine, snapshot.seq)
        if seq is None or seq < engine.base_seq:
            return []
        if engine.images & BEFORE:  # production led back to the snapshot
            pairs.append((Image.live(engine, seq, False), snapshot._image))
        if engine.images & AFTER:  # the snapshot led forward to production
            onward = ExtentMap.forward(engine, seq, engine.seq)
            forward = Image.patched(snapshot._image, onward, engine.seq, False)
            pairs.append((forward, Image.production(engine)))
        unequal = [
            f"snapshot {snapshot.name!r} and the journal disagree on volume {name!r} "
            f"near byte {start}"
            for one, other in pairs
            for name, volume in volumes.items()
            if name in snapshot.volumes
            for start in _unequal_pieces(one, other, volume)
        ]
    except JrnlError as error:
        return [f"snapshot {snapshot.name!r} cannot be compared with the journal: {error}"]
    return unequal


def _unequal_pieces(one: Image, other: Image, volume: Volume) -> Iterator[int]:
    """Yield where two images of a volume differ, to the nearest piece that may."""
    blocks = np.union1d(one.blocks(volume._index), other.blocks(volume._index))
    for start, length in pieces_within(united(ranges_of_blocks(blocks, volume.size))):
        if one.read(start, length, volume._index) != other.read(start, length, volume._index):
            yield start
