"""The order oracle: no byte reaches a volume's file before its entry is in the synced log.

It watches the disk, and knows no format. What a sector of a volume held at each seq, it looks up in
the model, which is ahead of the store by at most the operation under way. When the log is written,
no entry in it can be newer than the model's newest, so that is an upper bound of what a sync of the
log then makes durable. A sector may be written if some state up to that bound has exactly its
bytes. So it never cries wolf: what it refuses is in no entry that any synced group can hold. It
may miss what a step of several entries (a write_many) writes back too early within itself.

It also refuses a write that covers part of a sector, unless the volume ends there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.crash.disk import SECTOR, Op
from tests.crash.expect import World

EVERYTHING = 1 << 62
OTHER_IMAGES = ("snapshot-", "recovery-", "restore-", "base-")


class OrderOracle:
    """Sees each operation of the disk; `problems` lists what it refused, each in a sentence.

    It raises nothing: an exception could not cross the store.
    """

    def __init__(self, names: list[str], worlds: Callable[[], list[World]]) -> None:
        self.names, self.worlds = names, worlds
        self.written = self.durable = 0
        self.problems: list[str] = []

    def new_life(self, after_power_cut: bool, acknowledged: int) -> None:
        """After a power cut all that is left is durable; after a kill only what was synced."""
        self.written = EVERYTHING
        self.durable = EVERYTHING if after_power_cut else acknowledged

    def opened(self) -> None:
        """What a store shows once it is open, it has made durable."""
        self.written = self.durable = max(world.model.seq for world in self.worlds())

    def see(self, op: Op) -> None:
        if op.name == "log" and op.kind == "pwrite":
            newest = max((world.model.seq for world in self.worlds()), default=EVERYTHING)
            self.written = max(self.written, newest)
        elif op.name == "log" and op.kind == "sync":
            self.durable = max(self.durable, self.written)
        elif op.kind == "pwrite":
            volume = self.volume_of(op.name)
            if volume is not None:
                self._volume_write(volume, op)

    def volume_of(self, file: str) -> int | None:
        """Return which volume's file this is, by its name or its number."""
        if not file.endswith(".img") or file.startswith(OTHER_IMAGES):
            return None
        stem = file.removesuffix(".img")
        if stem in self.names:
            return self.names.index(stem)
        number = re.search(r"\d+$", stem)
        return int(number[0]) if number else self.names.index(stem.partition("-")[2])

    def _volume_write(self, volume: int, op: Op) -> None:
        worlds = self.worlds()
        if not worlds:
            return
        size = len(worlds[0].model.now[volume])
        end = op.offset + len(op.data)
        if op.offset % SECTOR or (end % SECTOR and end != size):
            self.problems.append(f"{op.path}: {op.offset}..{end} is not whole sectors")
        for at in range(0, len(op.data), SECTOR):
            data = op.data[at : at + SECTOR]
            if not any(self._is_durable(world, volume, op.offset + at, data) for world in worlds):
                self.problems.append(
                    f"{op.path}: sector {(op.offset + at) // SECTOR} was written before its entry "
                    f"was durable (the log is, up to {self.durable} at most)"
                )

    def _is_durable(self, world: World, volume: int, offset: int, data: bytes) -> bool:
        states = world.model.states
        for seq in reversed(states):
            if seq <= self.durable:
                state = states[seq]
                if state is not None and state[volume].startswith(data, offset):
                    return True
        # An intent to restore names what is durable: all that production held before.
        begun = world.wanted is not None and self.durable >= world.model.seq
        return begun and self._is_half_restored(world, volume, offset, data)

    @staticmethod
    def _is_half_restored(world: World, volume: int, offset: int, data: bytes) -> bool:
        """Whether each byte is the old one or the restored one: a sector may take two entries."""
        assert world.wanted is not None
        stop = offset + len(data)
        old, new = world.model.now[volume][offset:stop], world.wanted[volume][offset:stop]
        return all(
            byte in pair for byte, pair in zip(data, zip(old, new, strict=True), strict=True)
        )
