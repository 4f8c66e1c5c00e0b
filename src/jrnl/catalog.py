"""The catalogue: names and small facts about the store's marks, snapshots and recoveries."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from contextlib import contextmanager
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from jrnl._core import VolumeIO, forget, to_the_end
from jrnl.errors import (
    InvalidArgument,
    InvalidType,
    NameTaken,
    UnknownPoint,
    UnknownVolume,
    shown,
)
from jrnl.plan import AFTER
from jrnl.points import PRODUCTION, Mark, check_name, mark_text, parse_mark_text
from jrnl.steady import steadily
from jrnl.window import is_in_window

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.recovery import Recovery
    from jrnl.snapshot import Snapshot

_KIND_MARK = 4
_PRUNE_EVERY = 1024
_NAMES_SHOWN = 8


class Catalog:
    """Who is called what. It moves no bytes and takes no lock: callers hold the engine's.

    Parameters
    ----------
    indices : dict of str to int
        Each volume's index by its name.
    """

    def __init__(self, engine: Engine, indices: dict[str, int]) -> None:
        self.engine = engine
        self.indices = indices
        self.snapshots: dict[str, Snapshot] = {}
        self._marks: dict[str, Mark] = {}
        self._marks_changes = 0
        self._marks_shown: tuple[object, dict[str, Mark]] = None, {}  # and of which moment
        self._passing: set[str] = set()  # names of marks that no opening finds again
        self._prune_at = _PRUNE_EVERY
        self._recovery_ids = count(1)
        self._open_recoveries: WeakValueDictionary[int, Recovery] = WeakValueDictionary()
        self.listed = 0  # how often a recovery has come or gone
        self._saved_recoveries: dict[int, Recovery] = {}
        self._awaited: str | None = None  # the name of a mark whose entry is being made
        self._watcher: Callable[[], None] | None = None

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
        self.snapshots = {**self.snapshots, snapshot.name: snapshot}  # who walks it goes on
        self.snapshots_changed()

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        """Take a snapshot out again, if it is there."""
        if self.snapshots.get(snapshot.name) is snapshot:
            self.snapshots = {
                name: other for name, other in self.snapshots.items() if other is not snapshot
            }
            self.snapshots_changed()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called, from now on, when there is another snapshot, or one less."""
        self._watcher = watcher

    def snapshots_changed(self) -> None:
        """Tell who must know that there is another snapshot, or one less."""
        self.engine.turn()
        if self._watcher is not None:
            self._watcher()

    @contextmanager
    def awaiting(self, name: str) -> Iterator[None]:
        """Keep a name free while the entry of its mark is made, which may fold."""
        self._awaited = name
        try:
            yield
        finally:
            self._awaited = None

    def make_mark(self, name: str, *volumes: str, state: int | None = None) -> Mark:
        """Name the present state, or an earlier one, by a MARK entry.

        Raises NameTaken, JournalFull, EntryTooLarge.
        """
        self.check_free(name)
        made: list[tuple[int, int]] = []
        return to_the_end(partial(self._enter_mark, made, state, name, *volumes))

    def _enter_mark(
        self, made: list[tuple[int, int]], state: int | None, name: str, *volumes: str
    ) -> Mark:
        """Make a mark's entry, unless it is there already; and know it."""
        if not made:
            with self.awaiting(name):
                self.engine.note(_KIND_MARK, mark_text(name, volumes, state), made)
        mark = _mark_of(name, *made[0], state, volumes)
        self.add_mark(mark)
        return mark

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
        self._marks_changes += 1  # afterwards: who looks in between has looked before

    def load_marks(self, rows: Iterable[Sequence[Any]]) -> None:
        """Enter the marks that a log holds, oldest first."""
        for name, seq, time_ns, *parts in rows:
            volumes, state = parse_mark_text(parts)
            known = [volume for volume in volumes if volume in self.indices]
            self._marks[name] = _mark_of(name, seq, time_ns, state, known)
        self._marks_changes += 1

    def marks_at(self, seq: int) -> list[Mark]:
        """Return the marks of one state."""
        kept = (mark for name, mark in list(self._marks.items()) if name not in self._passing)
        return [mark for mark in kept if mark.seq == seq and self._alive(mark)]

    def remove_mark(self, mark: Mark) -> None:
        """Forget a named mark, if it is there; not another one that has its name by now."""
        if mark.name is not None:
            forget(self._marks, mark.name, mark)
            self._marks_changes += 1

    def _alive(self, mark: Mark) -> bool:
        """Whether a mark's state is in the window, and its entry has not been rewound."""
        there = is_in_window(self.snapshots, self.engine, mark.seq)
        if mark._entry is None or not there:
            return there
        return is_in_window(self.snapshots, self.engine, mark._entry)

    def find_mark(self, name: str) -> Mark | None:
        """Return the mark, or None where there is none whose state is in the window."""
        mark = self._marks.get(name)
        if mark is not None and not self._alive(mark):
            forget(self._marks, name, mark)
            return None
        return mark

    def marks(self) -> dict[str, Mark]:
        """Return all marks whose states are in the window; another dict after any change."""
        engine = self.engine
        seq, *moment = engine.stamp
        if engine.images == AFTER:  # the newest state may be the only one
            moment.append(seq)
        moment.append(self._marks_changes)
        if self._marks_shown[0] != moment:
            self._prune()
            self._marks_shown = moment, dict(self._marks)
        return self._marks_shown[1]

    def _prune(self) -> None:
        for name, mark in list(self._marks.items()):
            if not self._alive(mark):
                forget(self._marks, name, mark)
        self._prune_at = 2 * len(self._marks) + _PRUNE_EVERY

    def find_name(self, name: str) -> Mark | Snapshot:
        """Return what is called `name`. Raises UnknownPoint."""
        found = self.snapshots.get(name) or self.find_mark(name)
        if found is None:
            known = [*self.snapshots, *self.marks()]
            some = ", ".join(repr(other) for other in known[:_NAMES_SHOWN]) or "none"
            more = f" and {len(known) - _NAMES_SHOWN} more" if known[_NAMES_SHOWN:] else ""
            raise UnknownPoint(
                f"no mark or snapshot in the window is called {name!r}; there is {some}{more}. A "
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

    def recovery_number(self, number: int | None) -> int:
        """Return the number of a new recovery: a new one, or its own from an earlier opening."""
        if number is None:
            return next(self._recovery_ids)
        self.reserve_id(number)
        return number

    def reserve_id(self, number: int) -> None:
        """Let no new recovery have this number, or one before it."""
        self._recovery_ids = count(max(number + 1, next(self._recovery_ids)))

    def add_recovery(self, recovery: Recovery) -> None:
        """List a new recovery, for as long as its caller holds it."""
        self._open_recoveries[recovery.id] = recovery
        self.listed += 1

    def save_recovery(self, recovery: Recovery) -> None:
        """Hold on to a recovery until it is closed: it is about to be restored."""
        self._saved_recoveries[recovery.id] = recovery

    def remove_recovery(self, recovery: Recovery) -> None:
        """Forget a recovery that has been closed."""
        self._open_recoveries.pop(recovery.id, None)
        self._saved_recoveries.pop(recovery.id, None)
        self.listed += 1

    def recoveries(self) -> dict[int, Recovery]:
        """Return all open recoveries by their number."""
        # Recoveries come and go on other threads: valuerefs() is a list of its own.
        alive = (reference() for reference in self._open_recoveries.valuerefs())
        found = {recovery.id: recovery for recovery in alive if recovery is not None}
        return dict(sorted({**found, **self._saved_recoveries}.items()))

    def covered(self, only: Collection[int] | None) -> dict[str, int]:
        """Return the volumes of these indices, or all of them, by name."""
        return {
            name: index for name, index in self.indices.items() if only is None or index in only
        }

    def volume_index(self, volume: object) -> int:
        """Return the index of a volume; see the function of that name."""
        return volume_index(self.indices, volume, self.engine)


class Marks(Mapping[str, Mark]):
    """The marks whose states are in the window, by name; ``store.marks``. It follows the store.

    Looking one up costs the same however many there are.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __repr__(self) -> str:
        if self._catalog.engine.closed:
            return "<marks of a closed store>"
        return repr(self._now())

    def __getitem__(self, name: str) -> Mark:
        with self._catalog.engine as engine:
            engine.check_not_closed()
            found = self._catalog.find_mark(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def keys(self) -> KeysView[str]:
        """Return the names, as they are now."""
        return MappingProxyType(self._now()).keys()

    def values(self) -> ValuesView[Mark]:
        """Return the marks, as they are now."""
        return MappingProxyType(self._now()).values()

    def items(self) -> ItemsView[str, Mark]:
        """Return names and marks, as they are now."""
        return MappingProxyType(self._now()).items()

    def _now(self) -> dict[str, Mark]:
        with self._catalog.engine as engine:
            engine.check_not_closed()
            return steadily(engine, self._catalog.marks)


def _mark_of(name: str, seq: int, time_ns: int, state: int | None, volumes: Iterable[str]) -> Mark:
    """Return the mark that an entry of this seq makes."""
    if state is None or state >= seq:
        return Mark._of(name, seq, time_ns, *volumes)
    return Mark._of(name, state, time_ns, *volumes, entry=seq)


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
        return next(iter(volumes.values()))
    names = ", ".join(repr(name) for name in volumes)
    if volume is None:
        raise UnknownVolume(f"the store has several volumes; name one of {names}")
    if isinstance(volume, VolumeIO):
        if volume._engine is not engine:
            raise InvalidArgument(f"{volume!r} is of another store; name one of {names}")
        found = volume._index if volume._index in volumes.values() else None
    else:
        found = volumes.get(volume) if isinstance(volume, str) else None
    if found is None:
        raise UnknownVolume(f"no volume is called {volume!r}; there is {names}")
    return found


def chosen(known: dict[str, int], wanted: Iterable[str] | None, engine: Engine) -> list[int]:
    """Return the indices of the volumes that are named; of all by default.

    Raises
    ------
    UnknownVolume, InvalidArgument, InvalidType
    """
    if wanted is None:
        return list(known.values())
    if isinstance(wanted, str):
        raise InvalidType(f"volumes are names in a list: [{wanted!r}]")
    try:
        indices = sorted({volume_index(known, name, engine) for name in wanted})
    except TypeError as error:
        raise InvalidType(f"volumes are names in a list, not {shown(wanted)}") from error
    if not indices:
        raise InvalidArgument(f"name at least one volume of {', '.join(map(repr, known))}")
    return indices
