"""The catalogue: names and small facts about the store's marks, snapshots and recoveries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from jrnl._core import VolumeIO
from jrnl.errors import InvalidArgument, NameTaken, UnknownPoint, UnknownVolume
from jrnl.points import PRODUCTION, Mark, check_name

if TYPE_CHECKING:
    from jrnl._core import Engine, ExtentMap, Image
    from jrnl.copier import Copier
    from jrnl.recovery import Recovery
    from jrnl.snapshot import Snapshot

_PRUNE_EVERY = 1024
_NAMES_SHOWN = 8


class Keeps(Protocol):
    """What a store on disk does beside; see `keeper`."""

    def preserve(self) -> Image:
        """Copy production as it is now."""

    def snapshot_deleted(self, image: Image) -> None:
        """Forget a snapshot."""

    def fold(self, image: Image, extents: ExtentMap, seq: int) -> Image:
        """Bring a snapshot's copy on to state `seq`."""

    def make_base(self, name: str, seq: int) -> Image:
        """Take a snapshot of an earlier state."""

    def restore_begins(self, recovery: Recovery, volumes: list[int]) -> None:
        """Make a recovery and the intent to restore it durable."""

    def restore_failed(self, error: BaseException) -> None:
        """See that a restore that ended half way is taken back or finished."""

    def restore_ends(self) -> None:
        """Make the restored entries durable."""

    def recovery_closed(self, recovery: Recovery) -> None:
        """Forget a recovery."""


class Folds(Protocol):
    """Who must know which snapshots there are; see `folding`."""

    def refresh(self) -> None:
        """Decide anew what may leave the journal."""


class Catalog:
    """Who is called what. It moves no bytes and takes no lock: callers hold the engine's.

    Parameters
    ----------
    volumes : dict of str to int
        Each volume's index by its name.
    copier : Copier
        Makes the copies of snapshots.
    alive : callable
        ``alive(catalog, seq)``: whether the state of a seq is in the window.
    """

    def __init__(
        self,
        volumes: dict[str, int],
        copier: Copier,
        alive: Callable[[Catalog, int], bool],
    ) -> None:
        self.volumes = volumes
        self.copier = copier
        self.snapshots: dict[str, Snapshot] = {}
        self._alive = alive
        self._marks: dict[str, Mark] = {}
        self._passing: set[str] = set()  # names of marks that no opening finds again
        self._prune_at = _PRUNE_EVERY
        self._recovery_ids = count(1)
        self._open_recoveries: WeakValueDictionary[int, Recovery] = WeakValueDictionary()
        self._kept_recoveries: dict[int, Recovery] = {}
        self.keeper: Keeps | None = None
        self.folding: Folds | None = None
        self._awaited: str | None = None  # the name of a mark whose entry is being made
        self.check_delete: Callable[[str], None] = _may_go

    def check_free(self, name: str) -> str:
        """Return `name` if it is valid and nobody's. Raises InvalidArgument, NameTaken."""
        check_name(name)
        if name == PRODUCTION:
            raise InvalidArgument(f"{name!r} names a base that is no snapshot; use another name")
        if name in self.snapshots:
            raise NameTaken(f"{name!r} is the name of a snapshot; delete it or use another name")
        if self.find_mark(name) is not None:
            raise NameTaken(f"{name!r} is the name of a mark; use another name")
        return name

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Enter a snapshot under its name."""
        self.snapshots[snapshot.name] = snapshot
        self.snapshots_changed()

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        """Take a snapshot out again, if it is there."""
        if self.snapshots.get(snapshot.name) is snapshot:
            del self.snapshots[snapshot.name]
            self.snapshots_changed()

    def snapshots_changed(self) -> None:
        """Tell who must know that there is another snapshot, or one less."""
        if self.folding is not None:
            self.folding.refresh()

    @contextmanager
    def awaiting(self, name: str) -> Iterator[None]:
        """Keep a name free while the entry of its mark is made, which may fold."""
        self._awaited = name
        try:
            yield
        finally:
            self._awaited = None

    def is_free(self, name: str) -> bool:
        """Whether nobody is called `name`, nor is about to be."""
        taken = name in self.snapshots or self.find_mark(name) is not None
        return not taken and name != self._awaited

    def add_mark(self, mark: Mark, *, journaled: bool = True) -> None:
        """Enter a named mark; a savepoint's has no entry in the journal."""
        assert mark.name is not None
        self._passing.discard(mark.name)
        if not journaled:
            self._passing.add(mark.name)
        if len(self._marks) >= self._prune_at:
            self._prune()
        self._marks[mark.name] = mark

    def load_marks(self, rows: Iterable[Sequence[Any]]) -> None:
        """Enter the marks that a log holds, oldest first."""
        for name, seq, time_ns, *volumes in rows:
            known = [volume for volume in volumes if volume in self.volumes]
            self._marks[name] = Mark.of(name, seq, time_ns, *known)

    def marks_at(self, seq: int) -> list[Mark]:
        """Return the marks of one state."""
        kept = (mark for name, mark in self._marks.items() if name not in self._passing)
        return [mark for mark in kept if mark.seq == seq]

    def remove_mark(self, mark: Mark) -> None:
        """Forget a named mark, if it is there; not another one that has its name by now."""
        if mark.name is not None and self._marks.get(mark.name) is mark:
            del self._marks[mark.name]

    def find_mark(self, name: str) -> Mark | None:
        """Return the mark, or None where there is none whose state is in the window."""
        mark = self._marks.get(name)
        if mark is not None and not self._alive(self, mark.seq):
            del self._marks[name]
            return None
        return mark

    def marks(self) -> dict[str, Mark]:
        """Return all marks whose states are in the window."""
        self._prune()
        return dict(self._marks)

    def _prune(self) -> None:
        self._marks = {
            name: mark for name, mark in self._marks.items() if self._alive(self, mark.seq)
        }
        self._prune_at = 2 * len(self._marks) + _PRUNE_EVERY

    def find_name(self, name: str) -> Mark | Snapshot:
        """Return what is called `name`. Raises UnknownPoint."""
        found = self.snapshots.get(name) or self.find_mark(name)
        if found is None:
            known = [*self.snapshots, *self.marks()]
            shown = ", ".join(repr(other) for other in known[:_NAMES_SHOWN]) or "none"
            more = f" and {len(known) - _NAMES_SHOWN} more" if known[_NAMES_SHOWN:] else ""
            raise UnknownPoint(
                f"no mark or snapshot in the window is called {name!r}; there is {shown}{more}. A "
                "mark is forgotten once its state has left the window: pin it, mark(name, "
                "pinned=True), or take a snapshot"
            )
        return found

    def find_base(self, name: str) -> Snapshot:
        """Return the snapshot to start from. Raises UnknownPoint, InvalidArgument."""
        found = self.snapshots.get(name)
        if found is not None:
            return found
        known = ", ".join(repr(other) for other in [PRODUCTION, *self.snapshots][:_NAMES_SHOWN])
        more = len(self.snapshots) + 1 - _NAMES_SHOWN
        if more > 0:
            known += f" and {more} more"
        if self.find_mark(name) is not None:
            raise InvalidArgument(
                f"{name!r} is a mark; a base must be a snapshot or 'production': there is {known}"
            )
        raise UnknownPoint(f"no base is called {name!r}; there is {known}")

    def add_recovery(self, recovery: Recovery) -> int:
        """Give a new recovery its number; it is listed while its caller holds it."""
        number = next(self._recovery_ids)
        self._open_recoveries[number] = recovery
        return number

    def reserve_id(self, number: int) -> None:
        """Let no new recovery have this number, or one before it."""
        self._recovery_ids = count(max(number + 1, next(self._recovery_ids)))

    def add_loaded(self, recovery: Recovery, number: int) -> int:
        """Enter a recovery that has its number from an earlier opening."""
        self.reserve_id(number)
        self._open_recoveries[number] = recovery
        return number

    def keep_recovery(self, recovery: Recovery) -> None:
        """Hold on to a recovery until it is closed: it is about to be restored."""
        self._kept_recoveries[recovery.id] = recovery

    def remove_recovery(self, recovery: Recovery) -> None:
        """Forget a recovery that has been closed."""
        self._open_recoveries.pop(recovery.id, None)
        self._kept_recoveries.pop(recovery.id, None)

    def recoveries(self) -> dict[int, Recovery]:
        """Return all open recoveries by their number."""
        # Recoveries come and go on other threads: valuerefs() is a list of its own.
        alive = (reference() for reference in self._open_recoveries.valuerefs())
        found = {recovery.id: recovery for recovery in alive if recovery is not None}
        return dict(sorted({**found, **self._kept_recoveries}.items()))

    def volume_index(self, volume: object) -> int:
        """Return the index of a volume; see the function of that name."""
        return volume_index(self.volumes, volume, self.copier.engine)


def _may_go(name: str) -> None:
    """Whatever the snapshot, nothing needs it."""


def volume_index(volumes: dict[str, int], volume: object, engine: Engine) -> int:
    """Return the index of a volume given by name, as a Volume, or by None where there is one.

    Raises
    ------
    UnknownVolume
        No volume has the name, or there are several and none is named.
    InvalidArgument
        A Volume of another store.
    """
    if volume is None and len(volumes) == 1:
        return 0
    names = ", ".join(repr(name) for name in volumes)
    if volume is None:
        raise UnknownVolume(f"the store has several volumes; name one of {names}")
    if isinstance(volume, VolumeIO):
        if volume.engine is not engine:
            raise InvalidArgument(f"{volume!r} is of another store; name one of {names}")
        found = volume.index if volume.index in volumes.values() else None
    else:
        found = volumes.get(volume) if isinstance(volume, str) else None
    if found is None:
        raise UnknownVolume(f"no volume is called {volume!r}; there is {names}")
    return found
