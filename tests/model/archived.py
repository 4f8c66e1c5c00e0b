"""What an archive holds, read in the plainest way: every state of it in memory, entry by entry.

It shares the parsing of single objects with the shipping reader, and nothing else.
"""

from __future__ import annotations

from typing import Any

from jrnl import Kind
from jrnl.archive.chunks import Table, read_chunk
from jrnl.archive.ledger import Ledger
from jrnl.archive.lists import expanded
from jrnl.archive.segment import Segment

State = tuple[bytes, ...]


def newest_of(manifest: Any) -> str:
    """Say which snapshots and segments there are."""
    segments = [(each.base, each.first, each.last, each.low) for each in manifest.segments]
    return f"snapshots {[each.seq for each in manifest.snapshots]}, segments {segments}"


class Archived:
    """The newest manifest of an archive, and all states that it leads to.

    Attributes
    ----------
    states : dict of int to State
        By seq; a state that a rewind has dropped is not there.
    """

    def __init__(self, objects: Any) -> None:
        self.objects = objects
        newest = Ledger(objects).look_ahead()
        assert newest is not None, "there is no archive"
        self.manifest = expanded(objects, newest)
        self.sizes = [size for _, size in newest.store.volumes]
        self.states: dict[int, State] = {}
        for snapshot in newest.snapshots:
            self.states[snapshot.seq] = self._snapshot(snapshot.key)
        self._segments()

    def _snapshot(self, key: str) -> State:
        table = Table.parse(self.objects.get(key), key)
        volumes = []
        for volume, size in enumerate(self.sizes):
            content = bytearray(size)
            for piece in table.find(volume, 0, size):
                chunk = read_chunk(self.objects, table, int(piece["chunk"]))
                skip, length, offset = (int(piece[name]) for name in ("skip", "length", "offset"))
                part = chunk[skip : skip + length]
                assert len(part) == length
                content[offset : offset + length] = part
            volumes.append(bytes(content))
        return tuple(volumes)

    def _segments(self) -> None:
        """Follow all entries, from every state that is known."""
        for facts in self.manifest.segments:
            body = self.objects.get(facts.key)
            assert len(body) == facts.bytes
            segment = Segment.parse(body, facts.key)
            assert (segment.base, segment.first, segment.last) == (
                facts.base, facts.first, facts.last,
            )  # fmt: skip
            before = self.states.get(facts.base)
            for row in segment.rows:
                before = self._after(segment, row, before)
                seq = int(row["seq"])
                if before is not None:
                    known = self.states.get(seq)
                    assert known is None or known == before, (
                        f"two ways to state {seq} disagree: {facts}, {newest_of(self.manifest)}"
                    )
                    self.states[seq] = before
                else:
                    before = self.states.get(seq)  # a snapshot's, from which it goes on

    def _after(self, segment: Segment, row: Any, before: State | None) -> State | None:
        seq, kind = int(row["seq"]), int(row["kind"])
        if kind == Kind.REWIND:
            to = int(row["position"])
            for dropped in [known for known in self.states if to < known < seq]:
                del self.states[dropped]
            return self.states.get(to)
        if before is None or kind not in (Kind.WRITE, Kind.DISCARD, Kind.ZEROES):
            return before
        volume, offset, length = (int(row[name]) for name in ("volume", "offset", "length"))
        content = bytearray(before[volume])
        data = bytes(segment.written(row)) if kind == Kind.WRITE else bytes(length)
        content[offset : offset + length] = data
        assert len(content) == self.sizes[volume]
        return (*before[:volume], bytes(content), *before[volume + 1 :])
