"""What a journal that folds must keep to: the part of `Twin` that is about snapshots going on."""

from __future__ import annotations

from datetime import datetime


class FoldRules:
    """Mixed into `Twin`, whose store and model it holds against each other.

    Attributes
    ----------
    folded : int
        How often a snapshot was seen to have gone on.
    """

    def _begin_folds(self) -> None:
        self.folded = 0
        self.snapshots = dict(self.store.snapshots)
        self.model.snapshots = {name: snapshot.seq for name, snapshot in self.snapshots.items()}
        first = {"base": 0} if self.folds and not self.rewinds else {}
        assert self.model.snapshots == first

    def connected(self) -> dict[str, int]:
        """The snapshots that the journal leads on from, and the seqs of their states now."""
        kept = self.model.snapshots.items()
        return {n: self.model.present(s) for n, s in kept if self.model.is_kept(s, self.base)}

    def pinned_at(self) -> int | None:
        """The state behind which nothing may leave; None where anything may."""
        there = self.connected()
        if not self.folds or not all(self.snapshots[name].pinned for name in there):
            return None
        return max(there.values(), default=None)

    def _check_much_left(self, slack: int) -> None:
        """Entries have left: not more of them than had to, or where it folds, a sixteenth."""
        slots, area = self.model.slots, self.model.area
        if self.folds:
            slots, area = slots - slots // 16, area - area // 16
        full = len(self.store.journal.entries) >= slots
        assert full or self._images_used() > area - slack, "too many entries left"

    def _follow_folds(self, there: dict[str, int]) -> None:
        """Only the oldest snapshot that is not pinned goes on, and no further than it has to.

        `there` are those that the journal led on from before.
        """
        found = {name: snapshot.seq for name, snapshot in self.store.snapshots.items()}
        if not self.folds or found == self.model.snapshots:
            return
        self.folded += 1
        new = found.keys() - self.model.snapshots.keys()
        went_on = {name for name, seq in self.model.snapshots.items() if found[name] != seq}
        if new:
            assert not there, "a fold makes a snapshot although there is one"
            assert not went_on
            assert len(new) == 1
            assert min(new).startswith("base")
        free = {name: seq for name, seq in there.items() if not self.snapshots[name].pinned}
        for name in went_on:
            assert free.get(name) == min(free.values())
            assert found[name] > free[name]
        assert len(went_on) <= 1
        for name in went_on | new:
            snapshot = self.store.snapshots[name]
            assert new or snapshot is self.snapshots[name]
            self.snapshots[name] = snapshot
            self.model.snapshots[name] = seq = found[name]
            assert seq <= self.base or not self.rewinds
            assert self.model.is_kept(seq, self.base), "the journal does not lead on from it"
            right = self.read_all(snapshot) == self.model.states[seq]
            assert right, f"{name} is not state {seq}"

    def _names_snapshot(self, point: object, seq: int | None) -> bool:
        """Whether a point is a snapshot: by its name, or by its seq."""
        if isinstance(point, str):
            return point in self.model.snapshots
        return not isinstance(point, datetime) and seq in self.model.snapshots.values()

    def _snapshots_upto(self, seq: int) -> list[int]:
        """The states of snapshots from which the journal leads forward to a state."""
        kept = [s for s in self.model.snapshots.values() if self.model.is_kept(s, self.base)]
        return [s for s in kept if s <= seq]
