"""Opening a store on disk: what is found, what is cut, what is damaged (docs/durability.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jrnl._core import FORMAT

if TYPE_CHECKING:
    from jrnl._core import Log
    from jrnl.disk.session import DiskSession
    from jrnl.disk.superblock import Document

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
    """

    def __init__(self, keeper: DiskSession, log: Log, document: Document) -> None:
        self._keeper = keeper
        self._log = log
        self._document = document
        self.synced = int(document["synced_seq"])
        self.damage: list[tuple[int, int]] = []

    def run(self) -> None:
        """Enter every group that counts into the engine."""
        document = self._document
        if not self._load_index() and document["clean"]:  # after a crash it may lag behind
            self._keeper.problems.append("the index is damaged; it was made again from the log")
        while self._step():
            pass
        self._cut(self._log.position[0])
        if "drops" not in document:  # an earlier version's
            self._keeper.drops = self._log.rewinds()

    def _load_index(self) -> bool:
        """Take what the index says; False where that is not what was written last."""
        log, document = self._log, self._document
        slot, number, position = document["index"]
        if slot <= document["tail"][2] or "index_sum" not in document:  # an earlier version's
            return True
        return log.load_index(slot, number, position, document["durable_seq"],
                              document["index_sum"], document["clean"])  # fmt: skip

    def _cut(self, number: int) -> None:
        """Drop what the rewinds have dropped whose REWIND is in the next group, or before `number`.

        That is not left to the REWIND: it, and what it has dropped, may be damaged (R15).
        """
        first = self._log.position[0]
        slots = [drop[1] for drop in self._keeper.drops if first <= drop[0] <= number]
        if slots:
            self._log.cut(min(slots))

    def _step(self) -> bool:
        """Take one group; False at the end."""
        log, document = self._log, self._document
        number, position, _ = log.position
        known = int(document["durable_number"])
        self._cut(number)
        if document["clean"] and number >= known:
            return False
        if position - log.tail >= log.area:
            return False
        epoch = self._keeper.epoch_at(number)
        group = log.scan(epoch, position, number, number >= known)
        if group is not None and position + group["length"] - log.tail > log.area:
            group = None
        if group is None:
            return self._beyond_damage(number, position)
        if group["state"] != _WHOLE:
            if number >= known and not self._follows(group):
                return False  # torn: nothing durable says that it was ever whole
            self.damage.append((group["first_seq"], group["last_seq"]))
        log.take(epoch)
        self.synced = max(self.synced, group["synced_seq"])
        return True

    def _follows(self, group: dict[str, int]) -> bool:
        """Whether the next group is there: it was written only after this one was synced."""
        number, position = group["number"] + 1, group["position"] + group["length"]
        if position - self._log.tail >= self._log.area:
            return False
        later = self._log.scan(self._keeper.epoch_at(number), position, number, False)
        return later is not None

    def _beyond_damage(self, number: int, position: int) -> bool:
        """Nothing valid stands here. Was there anything? Only something durable can say so."""
        log, document = self._log, self._document
        before, old = log.engine.seq, "drops" not in document
        later = self._later_group(number, position)
        if later is not None:
            self._cut(later["number"])
            log.skip(later["number"], later["position"], later["first_slot"],
                     later["first_seq"] - 1, old)  # fmt: skip
            self.damage.append((before + 1, later["first_seq"] - 1))
            return True
        if number < int(document["durable_number"]):
            head_number, head_position, head_slot = document["head"]
            last = int(document["durable_seq"])
            if document["rewound"] is not None:  # its REWIND is in no group, but will be entered
                last = min(last, document["rewound"][1] - 1)
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
                group = log.scan(self._keeper.epoch_at(claimed), place, claimed, False)
                if group is not None:
                    return group
        return None
