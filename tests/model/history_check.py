"""What ``diff``, ``history`` and ``stats`` must say, counted from the model, which keeps it all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jrnl import Kind, PointExpired, Stats
from tests.model.whole import BYTE_KINDS, HEADER_BYTES, Entry, Model, State

if TYPE_CHECKING:
    from tests.model.twin import Twin

LOST_AGAIN = 16
JOINED = 64  # equal runs shorter than this, between bytes that differ, belong to an exact extent

Extents = list[tuple[int, int, int]]


def runs(mask: np.ndarray, joined: int = 1) -> list[tuple[int, int]]:
    """(offset, length) of each run of True; runs less than `joined` apart are one."""
    places = np.flatnonzero(mask)
    if not len(places):
        return []
    ends = np.flatnonzero(np.diff(places) > joined)
    starts = places[np.concatenate(([0], ends + 1))]
    stops = places[np.concatenate((ends, [-1]))] + 1
    return list(zip(starts.tolist(), (stops - starts).tolist(), strict=True))


def differing(one: State, other: State) -> list[np.ndarray]:
    """For each volume, where two states differ."""
    pairs = zip(one, other, strict=True)
    return [np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8) for a, b in pairs]


def extents_of(masks: list[np.ndarray], joined: int = 1) -> Extents:
    return [(k, *run) for k, mask in enumerate(masks) for run in runs(mask, joined)]


def written(twin: Twin, low: int, high: int) -> list[np.ndarray]:
    """For each volume, what the entries between two states wrote."""
    masks = [np.zeros(size, bool) for size in twin.sizes]
    for entry in twin.model.entries_in(low, high):
        if twin.model._counts(entry):
            masks[entry.volume][entry.offset : entry.offset + entry.length] = True
    return masks


def check_diff(twin: Twin, a: int, b: int) -> None:
    """Two states that the journal keeps, from headers and to the byte."""
    store, model = twin.store, twin.model
    low, high = sorted((model.present(a), model.present(b)))
    masks = written(twin, low, high)
    extents = store.diff(a, b)
    assert extents.tolist() == extents_of(masks), f"diff of {a} and {b}"
    assert store.diff(b, a, "v0").tolist() == [row for row in extents.tolist() if row[0] == 0]
    if not (twin.is_in_window(a) and twin.is_in_window(b)):
        with pytest.raises(PointExpired):
            store.diff(a, b, exact=True)
        return
    unequal = differing(model.states[low], model.states[high])
    for mask, byte_differs in zip(masks, unequal, strict=True):
        assert not (byte_differs & ~mask).any(), "they differ where nobody wrote"
    exact = store.diff(a, b, exact=True)
    assert exact.tolist() == extents_of(unequal, JOINED), f"exact diff of {a} and {b}"


def check_snapshot_diff(twin: Twin, name: str, seq: int) -> None:
    """A state that perhaps nothing but a snapshot holds, and one of the window."""
    model = twin.model
    taken = model.snapshots[name]
    if model.is_kept(taken, twin.base):
        check_diff(twin, taken, seq)
        return
    unequal = differing(model.states[taken], model.states[seq])
    expected = extents_of(unequal, JOINED)
    assert twin.store.diff(name, seq).tolist() == expected
    assert twin.store.diff(seq, taken, exact=True).tolist() == expected


def check_history(twin: Twin, volume: int, offset: int, length: int) -> None:
    def overlaps(entry: Entry) -> bool:
        inside = entry.offset < offset + length and offset < entry.offset + entry.length
        return entry.kind in BYTE_KINDS and entry.volume == volume and inside and length > 0

    kept = twin.model.entries_in(twin.base, twin.newest)
    rows = twin.store.history(offset, length, f"v{volume}")
    assert rows.dtype == twin.store.journal.entries.dtype
    assert rows.tolist() == [tuple(entry) for entry in kept if overlaps(entry)]


def check_stats(twin: Twin, a: int, b: int) -> None:
    store, model = twin.store, twin.model
    since, until = sorted((model.present(a), model.present(b)))
    entries = model.entries_in(since, until)
    stats = store.stats(since, until)
    check_counts(twin, entries, stats)
    check_journal_bytes(twin, entries, stats.journal_bytes)
    others = [entry for entry in entries if entry.kind not in BYTE_KINDS]
    took = sum(HEADER_BYTES + model.room(entry.kind, entry.length, False) for entry in others)
    for k, volume in enumerate(store.volumes):
        own = [entry for entry in entries if entry.kind in BYTE_KINDS and entry.volume == k]
        of_one = store.stats(since, until, volume)
        check_counts(twin, own, of_one)
        assert (of_one.journal_bytes > 0) == bool(own)
        took += of_one.journal_bytes
    if twin.on_disk:  # headers go to the log with their group, maybe later on
        assert took - HEADER_BYTES * len(entries) <= stats.journal_bytes
    else:
        assert took == stats.journal_bytes
    assert stats[:2] == (since, until)
    assert stats.seconds == (time_of(twin, until) - time_of(twin, since)) / 1e9
    left = len(model.entries) - len(store.journal.entries)
    assert stats.evictions <= left
    assert twin.on_disk or stats.evictions == left


def check_counts(twin: Twin, entries: list[Entry], stats: Stats) -> None:
    def of(kind: Kind) -> list[int]:
        return [entry.length for entry in entries if entry.kind == kind]

    masks = [np.zeros(size, bool) for size in twin.sizes]
    for entry in entries:
        if entry.kind == Kind.WRITE:
            masks[entry.volume][entry.offset : entry.offset + entry.length] = True
    distinct = sum(int(mask.sum()) for mask in masks)
    assert (stats.entries, stats.writes, stats.bytes) == (
        len(entries),
        len(of(Kind.WRITE)),
        sum(of(Kind.WRITE)),
    )
    assert (stats.distinct_bytes, stats.rewritten_bytes) == (distinct, stats.bytes - distinct)
    assert (stats.discards, stats.discarded_bytes) == (
        len(of(Kind.DISCARD)),
        sum(of(Kind.DISCARD)),
    )
    assert (stats.zeroes, stats.zeroed_bytes) == (len(of(Kind.ZEROES)), sum(of(Kind.ZEROES)))
    assert (stats.flushes, stats.marks, stats.rewinds) == tuple(
        len(of(kind)) for kind in (Kind.FLUSH, Kind.MARK, Kind.REWIND)
    )
    moved = stats.journal_bytes + stats.bytes
    assert stats.write_amplification == (moved / stats.bytes if stats.bytes else 0.0)
    assert (stats.used, stats.capacity) == (twin.store.journal.used, twin.store.journal.capacity)
    assert stats.occupancy == stats.used / stats.capacity


def _left_zeroes(model: Model, entry: Entry) -> bool:
    """Images of nothing but zeroes take no room on disk."""
    if entry.kind not in BYTE_KINDS:
        return False
    content = model.states[entry.seq][entry.volume]
    return not any(content[entry.offset : entry.offset + entry.length])


def check_journal_bytes(twin: Twin, entries: list[Entry], journal_bytes: int) -> None:
    model = twin.model
    rooms = [model.room(entry.kind, entry.length, entry.seq in model.idle) for entry in entries]
    if not twin.on_disk:
        assert journal_bytes == sum(rooms) + HEADER_BYTES * len(entries)
    elif entries:  # positions in a log, with what lies between
        whole = twin.store.stats()
        middle = entries[len(entries) // 2].seq
        least = sum(model.room(entry.kind, entry.length, True) for entry in entries[:-1]
                    if not _left_zeroes(model, entry))  # fmt: skip
        assert least <= journal_bytes <= whole.journal_bytes <= twin.store.journal.used
        parts = [
            twin.store.stats(since, until).journal_bytes
            for since, until in ((twin.base, middle), (middle, twin.newest))
        ]
        assert sum(parts) == whole.journal_bytes
    else:
        assert journal_bytes == 0


def time_of(twin: Twin, seq: int) -> int:
    """When a state was made."""
    times = {entry.seq: entry.time_ns for entry in twin.model.entries}
    return times.get(seq, twin.model.created_ns)


def check_gone(twin: Twin, seq: int) -> None:
    """A state whose entries are no longer there, and that no snapshot holds."""
    for ask in (twin.store.diff, twin.store.stats):
        with pytest.raises(PointExpired):
            ask(seq, twin.newest)


def lost_to_ask_for(twin: Twin, pick: random.Random) -> list[int]:
    """Those lost since the last check, the first, the last, and some: lost is lost for good."""
    lost, before = twin.lost_states(), twin.lost_before
    old = [seq for seq in lost if seq in before]
    some = pick.sample(old, min(len(old), LOST_AGAIN))
    twin.lost_before = set(lost)
    return sorted({*lost[:1], *lost[-1:], *some, *(set(lost) - before)})


def check_past(twin: Twin) -> list[int]:
    """Some of all that there is: as much as a check after every few steps can afford.

    Returns the lost states that it has asked for.
    """
    pick = random.Random(twin.newest)
    kept = [seq for seq in range(twin.base, twin.newest + 1) if twin.model.is_kept(seq, twin.base)]
    pairs = [(twin.base, twin.newest), tuple(pick.choices(kept, k=2)), (kept[-2:] * 2)[:2]]
    for a, b in pairs:
        check_diff(twin, a, b)
        check_stats(twin, a, b)
    lost = lost_to_ask_for(twin, pick)
    for seq in lost:
        if not twin.model.is_kept(seq, twin.base):
            check_gone(twin, seq)
    for name in twin.model.snapshots:
        check_snapshot_diff(twin, name, pick.choice(twin.kept_states()))
    for volume, size in enumerate(twin.sizes):
        offset = pick.randrange(size)
        check_history(twin, volume, offset, pick.randint(0, min(4000, size - offset)))
        check_history(twin, volume, 0, size)
    return lost
