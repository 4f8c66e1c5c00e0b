"""The model that stores are held against: it keeps every state whole, and computes none back.

A state is a tuple of bytes, one for each volume, and stands under its seq for good. What a store
has to work out from a ring of images, the model looks up. It knows nothing of where the ring's
entries lie: how many of them are left is read off the store, within bounds that `Twin` holds it to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jrnl import Kind

State = tuple[bytes, ...]

BYTE_KINDS = (Kind.WRITE, Kind.DISCARD, Kind.ZEROES)
HEADER_BYTES = 64
SECTOR = 512
START_NS = 1_700_000_000 * 10**9


class Entry(NamedTuple):
    """A row of ``store.journal.entries``."""

    seq: int
    time_ns: int
    kind: int
    volume: int
    offset: int
    length: int


def line_up(length: int) -> int:
    """Bytes that an image of this length takes: whole lines of 64."""
    return -(-length // 64) * 64


class Model:
    """Every state of a store.

    Attributes
    ----------
    states : dict of int to State
        By seq, those dropped and expired included; None where nobody can know it.
    entries : list of Entry
        In seq order, those expired included, those dropped by a rewind not.
    dropped : set of int
        Seqs that a rewind dropped.
    successor : dict of int to int
        A REWIND entry's seq that a later one replaced, and the later one's: the same state.
    idle : set of int
        Seqs of discards and zeroes where there were zeroes already.
    snapshots : dict of str to int
    marks : dict of str to int
        Expired ones included.
    """

    def __init__(self, sizes: list[int], journal: int, images: str, time_ns: int) -> None:
        self.slots = journal // 8 // HEADER_BYTES
        self.area = (journal - self.slots * HEADER_BYTES) // 64 * 64
        self.images = images
        self.write_max = self.area // (4 if images == "both" else 2) // 64 * 64
        self.piece_max = min(self.area // 8, 1 << 20) // 512 * 512
        self.created_ns = time_ns
        self.seq = 0
        self.states: dict[int, State | None] = {0: tuple(bytes(size) for size in sizes)}
        self.entries: list[Entry] = []
        self.dropped: set[int] = set()
        self.successor: dict[int, int] = {}
        self.idle: set[int] = set()
        self.snapshots: dict[str, int] = {}
        self.marks: dict[str, int] = {}
        self.folds = False

    @property
    def now(self) -> State:
        """Production."""
        state = self.states[self.seq]
        assert state is not None
        return state

    # What a host does. Each gives the newest seq.

    def write(self, volume: int, offset: int, data: bytes, time_ns: int, kind: int = 1) -> int:
        if data:
            old = self.now[volume]
            new = old[:offset] + data + old[offset + len(data) :]
            state = (*self.now[:volume], new, *self.now[volume + 1 :])
            self._add(Entry(self.seq + 1, time_ns, kind, volume, offset, len(data)), state)
        return self.seq

    def zero(self, kind: int, volume: int, offset: int, length: int, time_ns: int) -> int:
        for start in range(offset, offset + length, self.piece_max):
            piece = bytes(min(self.piece_max, offset + length - start))
            is_idle = self.now[volume].startswith(piece, start)
            self.write(volume, start, piece, time_ns, kind)
            if is_idle:
                self.idle.add(self.seq)
        return self.seq

    def flush(self, time_ns: int) -> int:
        if self.entries and self.entries[-1].kind != Kind.FLUSH:
            self._note(Kind.FLUSH, 0, 0, time_ns)
        return self.seq

    def mark(self, name: str, time_ns: int) -> int:
        self._note(Kind.MARK, 0, len(name.encode()), time_ns)
        self.marks[name] = self.seq
        return self.seq

    def rewind(self, to: int, base: int, time_ns: int) -> int:
        """Go back to a kept state, by its present seq; `base` is the one before all entries."""
        if to == self.seq:
            return self.seq
        state = self.states[to]
        self.dropped.update(range(to + 1, self.seq + 1))
        self.entries = self.entries_in(0, to)
        replaced = to if to > base and self.entries[-1].kind == Kind.REWIND else None
        self._note(Kind.REWIND, to, 0, time_ns)
        self.states[self.seq] = state
        if replaced is not None:
            self.successor[replaced] = self.seq
            del self.entries[-2]
        return self.seq

    def _note(self, kind: int, offset: int, length: int, time_ns: int) -> None:
        self._add(Entry(self.seq + 1, time_ns, kind, 0, offset, length), self.now)

    def _add(self, entry: Entry, state: State) -> None:
        self.seq = entry.seq
        self.entries.append(entry)
        self.states[self.seq] = state

    # What a store must say.

    def entries_in(self, low: int, high: int) -> list[Entry]:
        """Those with low < seq <= high."""
        return [entry for entry in self.entries if low < entry.seq <= high]

    def present(self, seq: int) -> int:
        """The seq that a state is kept under now."""
        while seq in self.successor:
            seq = self.successor[seq]
        return seq

    def is_kept(self, seq: int, base: int) -> bool:
        """Whether no rewind has dropped a state, nor the ring's end at `base` passed it."""
        return base <= seq <= self.seq and seq not in self.dropped

    def seq_at(self, time_ns: int, base: int) -> int | None:
        """The last state at or before a time, or None if that has left the ring."""
        states = [(self.created_ns, 0)] + [(entry.time_ns, entry.seq) for entry in self.entries]
        return max((seq for at, seq in states if at <= time_ns and seq >= base), default=None)

    def before(self, entry: Entry) -> bytes:
        """What an entry overwrote. The entry before it must be known."""
        k = self.entries.index(entry)
        state = self.states[self.entries[k - 1].seq if k else 0]
        return state[entry.volume][entry.offset : entry.offset + entry.length]

    def after(self, entry: Entry) -> bytes:
        """What an entry wrote."""
        return self.states[entry.seq][entry.volume][entry.offset : entry.offset + entry.length]

    def room(self, kind: int, length: int, is_idle: bool) -> int:
        """Bytes that an entry's images take in the journal."""
        if kind == Kind.MARK:
            return line_up(length)
        if kind not in BYTE_KINDS:
            return 0
        before = self.images != "after" and not is_idle
        after = self.images != "before" and kind == Kind.WRITE
        return line_up(length) * (before + after)

    def moved(
        self, route: str, base: int, to: int, volumes: list[int] | None = None
    ) -> tuple[int, int]:
        """(entries, bytes): how many entries give how many distinct bytes on a route (I1 to I3)."""

        def between(low: int, high: int) -> list[Entry]:
            found = self.entries_in(low, high)
            return [entry for entry in found if volumes is None or entry.volume in volumes]

        if route == "backward":
            return self._first_bytes(between(to, base), None)
        written = between(base, to)
        if route == "forward":
            return self._first_bytes(written[::-1], None)
        wanted = self._cover(written)
        entries, _ = self._first_bytes(between(to, self.seq), wanted)
        return entries, sum(int(mask.sum()) for mask in wanted)

    def lacking(self, base: int, to: int) -> int:
        """Bytes written in (base, to] and never since: what a restore compares for the base only.

        Every way to state `to` compares what was written after it.
        """
        if self.present(base) >= self.present(to):
            return 0
        written = self._cover(self.entries_in(base, to))
        later = self._cover(self.entries_in(to, self.seq))
        return sum(int((one & ~other).sum()) for one, other in zip(written, later, strict=True))

    def _cover(self, entries: list[Entry]) -> list[np.ndarray]:
        """For each volume, which of its bytes the entries touch."""
        masks = [np.zeros(len(content), bool) for content in self.now]
        for entry in entries:
            if self._counts(entry):
                masks[entry.volume][self.imaged(entry)] = True
        return masks

    def imaged(self, entry: Entry) -> slice:
        """The bytes of its volume that an entry's images hold."""
        return slice(entry.offset, entry.offset + entry.length)

    def _first_bytes(
        self, entries: list[Entry], wanted: list[np.ndarray] | None
    ) -> tuple[int, int]:
        """How many entries are the first, in this order, to cover a (wanted) byte; the bytes."""
        left = [mask.copy() for mask in wanted] if wanted else [~m for m in self._cover([])]
        counts = []
        for entry in entries:
            if self._counts(entry):
                part = left[entry.volume][self.imaged(entry)]
                counts.append(int(part.sum()))
                part[:] = False
        return sum(count > 0 for count in counts), sum(counts)

    def _counts(self, entry: Entry) -> bool:
        """Whether a recovery takes bytes of it: not where a before-image says that none changed."""
        return entry.kind in BYTE_KINDS and (self.images == "after" or entry.seq not in self.idle)
