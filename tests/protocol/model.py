"""What must be true after a crash: whole states by seq, and the order of writes.

A world is one history that may have happened. An operation that is all or nothing has two, before
and after, until it returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.protocol.disk import SECTOR
from tests.protocol.layout import HEADER, MAGIC
from tests.protocol.opening import Store
from tests.protocol.store import SECTORS, VOLUMES, Key

State = dict[Key, bytes]
BLANK: State = {(v, s): bytes(SECTOR) for v in range(VOLUMES) for s in range(SECTORS)}


class Failure(AssertionError):
    """The protocol broke a promise."""


@dataclass
class World:
    states: dict[int, State] = field(default_factory=lambda: {0: BLANK})
    acked: int = 0  # the last seq that a flush has returned
    snaps: dict[str, int] = field(default_factory=dict)

    def branch(self, **changes) -> World:
        return World(**{"states": dict(self.states), "acked": self.acked,
                        "snaps": dict(self.snaps)} | changes)  # fmt: skip

    def refuses(self, store: Store, acked: int) -> str:
        """Return why this history can't be the one that `store` shows, or nothing."""
        if store.seq not in self.states:
            return f"seq {store.seq} is in no history"
        if store.seq < acked:
            return f"acknowledged {acked}, found {store.seq}"
        if store.state() != self.states[store.seq]:
            return f"production is not state {store.seq}"
        for point in store.points():
            if point not in self.states:
                return f"point {point} is in no history"
            if store.recover(point) != self.states[point]:
                return f"point {point} comes back wrong"
        if {n: s for n, (s, _) in store.doc["snaps"].items()} != self.snaps:
            return f"snapshots {store.doc['snaps']}, expected {self.snaps}"
        for name, seq in self.snaps.items():
            if store.doc["snaps"][name][1] == "done" and store.snap(name) != self.states[seq]:
                return f"snapshot {name} is not state {seq}"
        return ""


class Model:
    def __init__(self) -> None:
        self.worlds = [World()]
        self.oldest = 0  # what the store had given up when the crash came
        self.evicting = False  # a restore is under way: finishing it at opening may evict

    @property
    def now(self) -> World:
        return self.worlds[-1]

    def match(self, store: Store, acked: int | None = None) -> World:
        """Return the history that the store shows, cut to what it has kept."""
        if store.oldest() > self.oldest and not self.evicting:
            raise Failure(f"history up to {store.oldest()} is gone, {self.oldest} was promised")
        reasons = []
        for world in self.worlds:
            reason = world.refuses(store, world.acked if acked is None else acked)
            if not reason:
                kept = {k: s for k, s in world.states.items() if k <= store.seq}
                return World(kept, store.seq, dict(world.snaps))
            reasons.append(reason)
        raise Failure("; ".join(reasons))


class OrderOracle:
    """Fails on any write to a volume's file whose entry is not synced. It watches the disk only."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.written = self.durable = 0

    def everything_is_durable(self) -> None:
        self.written = self.durable = 1 << 62

    def see(self, what: str, path: str, offset: int = 0, data: bytes = b"") -> None:
        file = path.rpartition("/")[2]
        if file == "log" and what == "write" and data[:4] == MAGIC:
            fields = HEADER.unpack(data[: HEADER.size])
            self.written = fields[4] + fields[7] - 1
        elif file == "log" and what == "sync":
            self.durable = max(self.durable, self.written)
        elif file.startswith("vol") and what == "write":
            for at in range(0, len(data), SECTOR):
                key = (int(file[3:]), (offset + at) // SECTOR)
                self._volume_write(key, data[at : at + SECTOR])

    def _volume_write(self, key: Key, content: bytes) -> None:
        for world in self.model.worlds:
            if any(k <= self.durable and s[key] == content for k, s in world.states.items()):
                return
        raise Failure(f"order: volume sector {key} written before its entry is durable")
