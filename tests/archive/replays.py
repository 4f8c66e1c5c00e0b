"""Histories to archive, and what a store that was made again has in common with its original."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

import jrnl
from jrnl.archive.segment import Segment
from jrnl.archive.taking import take

SIZES = {"a": 40_000, "b": 5_001}

_volumes = st.sampled_from(list(SIZES))
_places = st.tuples(
    st.integers(0, 5000), st.sampled_from([1, 7, 512, 513, 4096]), st.sampled_from([1, 512])
)
steps = st.one_of(
    st.tuples(st.just("write"), _volumes, _places, st.integers(0, 255)),
    st.tuples(st.sampled_from(["discard", "write_zeroes"]), _volumes, _places),
    st.tuples(st.just("flush")),
    st.tuples(
        st.just("mark"),
        st.sampled_from([None, ["b"], ["a", "b"]]),
        st.none() | st.integers(0, 9),
        st.booleans(),
    ),
    st.tuples(st.just("rewind"), st.integers(0, 12)),
    st.tuples(st.just("take"), st.sampled_from([1, 5000, 1 << 20])),
)


class Clock:
    """One microsecond later at each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.now += 1000
        return self.now


class History:
    """A store, and the segments that were taken of it.

    Attributes
    ----------
    segments : list of Segment
    after : int or None
        What is taken; None once something had left before.
    """

    def __init__(self, store: jrnl.Store) -> None:
        self.store = store
        self.segments: list[Segment] = []
        self.after: int | None = store.seq
        self.marks = 0

    def do(self, step: tuple[Any, ...]) -> None:
        getattr(self, f"_{step[0]}")(*step)

    def _place(self, volume: str, place: tuple[int, int, int]) -> tuple[int, int]:
        offset, length, step = place
        size = self.store[volume].size
        offset = offset % size // step * step
        return offset, min(length, size - offset)

    def _write(self, _: str, volume: str, place: tuple[int, int, int], value: int) -> None:
        offset, length = self._place(volume, place)
        data = bytes((value + k * 7) % 256 for k in range(length))
        with suppress(jrnl.EntryTooLarge):
            self.store[volume].write(offset, data)

    def _discard(self, kind: str, volume: str, place: tuple[int, int, int]) -> None:
        getattr(self.store[volume], kind)(*self._place(volume, place))

    _write_zeroes = _discard

    def _flush(self, _: str) -> None:
        self.store.flush()

    def _mark(self, _: str, volumes: list[str] | None, back: int | None, pinned: bool) -> None:
        self.marks += 1
        name = f"mark {self.marks}"
        with suppress(jrnl.PointExpired, jrnl.UnknownPoint):
            at = None if back is None else max(0, self.store.seq - back)
            self.store.mark(name, pinned and at is None, volumes=volumes, at=at)
            if pinned and at is None:
                self.store.unpin(name)

    def _rewind(self, _: str, back: int) -> None:
        with suppress(jrnl.PointExpired):
            self.store.rewind(max(self.store.seq - back, 0))

    def _take(self, _: str, most: int = 1 << 20) -> None:
        self.store.flush()
        while self.after is not None:
            try:
                segment = take(self.store, self.after, most_bytes=most)
            except jrnl.PointExpired:
                self.after = None
                return
            if segment is None:
                return
            self.segments.append(Segment.parse(segment.to_bytes(), "segment"))
            self.after = segment.last

    def end(self) -> bool:
        """Take the rest; whether everything is taken."""
        self._take("take")
        return self.after is not None


def digest(store: jrnl.Store, seq: int) -> str | None:
    try:
        return store.digest(seq)
    except jrnl.PointExpired:
        return None


def check_same(original: jrnl.Store, copy: jrnl.Store) -> int:
    """All that both have of states, entries and marks is alike. Return how many states that are."""
    assert copy.seq == original.seq
    oldest = max(original.window.oldest, copy.window.oldest)
    seqs = range(oldest, original.seq + 1)
    wanted = {seq: digest(original, seq) for seq in seqs}
    assert {seq: digest(copy, seq) for seq in seqs} == wanted
    rows = [
        [row for row in store.journal.entries.tolist() if row[0] > oldest]
        for store in (original, copy)
    ]
    assert rows[0] == rows[1]
    marks = [
        {
            name: (mark, mark.volumes, mark._entry)
            for name, mark in store.marks.items()
            if mark.seq >= oldest
        }
        for store in (original, copy)
    ]
    assert marks[0] == marks[1]
    return sum(found is not None for found in wanted.values())
