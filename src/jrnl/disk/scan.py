"""Opening a store on disk: what is found, what is cut, what is damaged (docs/durability.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jrnl._core import FORMAT

if TYPE_CHECKING:
    from jrnl.disk.record import Record
    from jrnl.disk.session import DiskSession

_BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
_WHOLE = 1


class Scan:
    """Reads the log from its tail to its end.

    Attributes
    ----------
    synced : int
        The seq up to which the volumes' files are known to have everything.
    damage : list of (first, last)
        Seqs of entries that were durable and cannot be read.
    groups : int
        That were read, beside what the index told; they have the entries `first` to `last`.
    torn : bool
        Whether the last group was torn, which cuts the log before it.
    """

    def __init__(self, session: DiskSession, record: Record) -> None:
        self._session = session
        self._log = session.log
        self._record = record
        self.synced = int(record.synced_seq)
        self.damage: list[tuple[int, int]] = []
        self.groups = self.first = self.last = 0
        self.torn = False

    def run(self) -> None:
        """Enter every group that counts into the engine."""
        record = self._record
        if not self._load_index() and record.clean:  # after a crash it may lag behind
            self._session.found.append("the index is damaged; it was made again from the log")
        self.first = self._log.engine.seq + 1
        while self._step():
            pass
        self.last = self._log.engine.seq
        self._cut(self._log.position[0])
        if record.drops is None:  # an earlier version's
            self._session.state.drops = self._log.rewinds()

    def _load_index(self) -> bool:
        """Take what the index says; False where that is not what was written last."""
        log, record = self._log, self._record
        slot, number, position = record.index
        if slot <= record.tail[2] or record.index_sum is None:  # an earlier version's
            return True
        return log.load_index(slot, number, position, record.durable_seq,
                              record.index_sum, record.clean)  # fmt: skip

    def _cut(self, number: int) -> None:
        """Drop what the rewinds have dropped whose REWIND is in the next group, or before `number`.

        That is not left to the REWIND: it, and what it has dropped, may be damaged (R15).
        """
        first = self._log.position[0]
        slots = [
            drop[1] for drop in (self._session.state.drops or []) if first <= drop[0] <= number
        ]
        if slots:
            self._log.cut(min(slots))

    def _step(self) -> bool:
        """Take one group; False at the end."""
        log, record = self._log, self._record
        number, position, _ = log.position
        known = int(record.durable_number)
        self._cut(number)
        if record.clean and number >= known:
            return False
        if position - log.tail >= log.area:
            return False
        epoch = self._session.state.epoch_at(number)
        group = log.scan(epoch, position, number, number >= known)
        if group is not None and position + group["length"] - log.tail > log.area:
            group = None
        if group is None:
            return self._beyond_damage(number, position)
        if group["state"] != _WHOLE:
            if number >= known and not self._follows(group):
                self.torn = True
                return False  # nothing durable says that it was ever whole
            self.damage.append((group["first_seq"], group["last_seq"]))
        log.take(epoch)
        self.groups += 1
        self.synced = max(self.synced, group["synced_seq"])
        return True

    def _follows(self, group: dict[str, int]) -> bool:
        """Whether the next group is there: it was written only after this one was synced."""
        number, position = group["number"] + 1, group["position"] + group["length"]
        if position - self._log.tail >= self._log.area:
            return False
        later = self._log.scan(self._session.state.epoch_at(number), position, number, False)
        return later is not None

    def _beyond_damage(self, number: int, position: int) -> bool:
        """Nothing valid stands here. Was there anything? Only something durable can say so."""
        log, record = self._log, self._record
        before, old = log.engine.seq, record.drops is None
        later = self._later_group(number, position)
        if later is not None:
            self._cut(later["number"])
            log.skip(later["number"], later["position"], later["first_slot"],
                     later["first_seq"] - 1, old)  # fmt: skip
            self.damage.append((before + 1, later["first_seq"] - 1))
            return True
        if number < int(record.durable_number):
            head_number, head_position, head_slot = record.head
            last = int(record.durable_seq)
            if record.rewound is not None:  # its REWIND is in no group, but will be entered
                last = min(last, record.rewound[1] - 1)
            self._cut(head_number)
            log.skip(head_number, head_position, head_slot, last, old)
            self.damage.append((before + 1, last))
            return True
        return False

    def _later_group(self, number: int, position: int) -> dict[str, Any] | None:
        """Look for a later group behind an invalid one, as far as one or two groups reach.

        The seeds of its checksum make this safe: a block that only looks like a group, an older
        lap's or another life's, does not match.
        """
        log = self._log
        end = min(log.tail + log.area, position + _BLOCK + 4 * log.group_max + 2 * log.entry_max)
        start = position + _BLOCK
        if end <= start:
            return None
        for place, claimed in log.candidates(start, end - start):
            if number < claimed <= number + (place - position) // _BLOCK:
                group = log.scan(self._session.state.epoch_at(claimed), place, claimed, False)
                if group is not None:
                    return group
        return None
