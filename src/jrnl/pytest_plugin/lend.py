"""Stores that are lent to tests, and put back afterwards, whatever a test has left open."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import pytest

from jrnl._core import Edit
from jrnl.api import create
from jrnl.errors import EditOpen, InvalidArgument, InvalidType, JrnlError, PinnedPoint
from jrnl.store import Store

_DEFAULTS: Final = {"journal": "16MiB"}
_SIZE: Final = "16MiB"
_SIZES: Final = ("size", "volumes", "source")  # each of them says which volumes there are
_KEPT_MAX: Final = 8
_SNAPSHOT: Final = "jrnl_store"

Wanted = Store | Mapping[str, Any] | Callable[[], Store]


class Stores:
    """The stores of a run, one for each set of options."""

    def __init__(self) -> None:
        self._kept: dict[object, Lent] = {}

    def lend(self, wanted: Wanted, more: Mapping[str, Any]) -> Lent:
        """Return a store that is put back by `Lent.put_back`.

        Parameters
        ----------
        wanted : mapping, Store or callable
            Options of `jrnl.create`, and ``prepare``; a store; or what makes one.
        more : mapping
            Options that go before those.

        Raises
        ------
        InvalidArgument, InvalidType, and what making and preparing the store raise.
        """
        key = (repr(wanted) if isinstance(wanted, Mapping) else id(wanted), repr(more))
        lent = self._kept.pop(key, None)
        if lent is None:
            if isinstance(wanted, Mapping):
                wanted = _joined(wanted, more)
            elif more:
                raise InvalidArgument(
                    "@pytest.mark.jrnl gives options, and jrnl_store_options a store: there is "
                    "nothing to make with them"
                )
            lent = Lent(wanted)
            if len(self._kept) >= _KEPT_MAX:
                self._kept.pop(next(iter(self._kept))).close()
        self._kept[key] = lent
        lent.begin()
        return lent

    def close(self) -> None:
        """Close those that were made here."""
        for lent in self._kept.values():
            lent.close()


def _joined(wanted: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    if any(name in more for name in _SIZES):
        wanted = {name: value for name, value in wanted.items() if name not in _SIZES}
    joined = {**_DEFAULTS, **wanted, **more}
    if not any(name in joined for name in _SIZES):
        joined["size"] = _SIZE
    return joined


class Lent:
    """One store, and what it takes to put it back.

    Attributes
    ----------
    store : Store
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._is_made, self._warned = not isinstance(wanted, Store), False
        self.store = self._make()
        self._note()

    def _make(self) -> Store:
        wanted, prepared = self._wanted, True
        if isinstance(wanted, Mapping):
            options = dict(wanted)
            prepare = options.pop("prepare", None)
            store = create(**options)
            if prepare is not None:
                prepare(store)
            prepared = prepare is not None or "source" in options
        else:
            store = wanted if isinstance(wanted, Store) else wanted()
            if not isinstance(store, Store):
                raise InvalidType(
                    "jrnl_store_options gives options, a store or what makes one, not "
                    f"{type(store).__name__}"
                )
        # What it takes where a test writes more than the journal holds, or no rewind is possible.
        if (prepared or store.options.images == "after") and _SNAPSHOT not in store.snapshots:
            store.snapshot(_SNAPSHOT)
        return store

    def begin(self) -> None:
        """Note what is there before a test. Raises InvalidArgument where the store is closed."""
        if self.store._engine.closed:
            self._make_again("it is closed")
        self._start = self.store.seq
        if not self._is_made:
            self._note()  # of another one's store, more may be open than there was after a test

    def _note(self) -> None:
        store = self.store
        self._snapshots = set(store.snapshots)
        self._pins, self._views, self._recoveries = store.pins, store.views, store.recoveries
        self._savepoints = {*store._rewinder.starts}
        self._retention = store._engine.retention

    def put_back(self) -> None:
        """Make the store what it was when the test began; where that cannot be, make another one.

        Raises InvalidArgument where a store that was handed in cannot be put back.

        Warns
        -----
        PytestWarning
            Once: a test wrote more than the journal holds.
        """
        if self.store._engine.closed:
            return  # the next one who wants it gets another one
        try:
            _leave_edits(self.store)
            self._close_what_is_open()
            missing = self._snapshots - {*self.store.snapshots}
            if missing or not all(pin.held for pin in self._pins):
                raise PinnedPoint("what it was prepared with was deleted by a test")
        except (JrnlError, OSError) as error:
            self._make_again(str(error))
            return
        try:
            if self.store.seq != self._start:
                self.store.rewind(self._start, close_views=True)
        except (JrnlError, OSError) as error:
            self._restore(error)

    def _close_what_is_open(self) -> None:
        store = self.store
        for savepoint in [*store._rewinder.starts]:
            if savepoint not in self._savepoints:
                savepoint.__exit__(None, None, None)
        for number, view in store.views.items():
            if number not in self._views:
                view.close()
        for number, recovery in store.recoveries.items():
            if number not in self._recoveries:
                recovery.close()
        for name, snapshot in store.snapshots.items():
            if name not in self._snapshots:
                snapshot.delete()
        self._let_go_of_pins()

    def _let_go_of_pins(self) -> None:
        store = self.store
        for pin in store.pins:
            if any(pin is known for known in self._pins):
                continue
            if pin.name is None:
                pin.release()
            else:
                store.unpin(pin.name)
        if store._engine.retention != self._retention:
            store.retain(*(ns / 1e9 if ns else None for ns in self._retention))

    def _restore(self, problem: Exception) -> None:
        """Put it back without a rewind: from a snapshot, or make another one."""
        after_only = self.store.options.images == "after"
        if not after_only and not self._warned:
            self._warned = True
            warning = (
                f"jrnl_store could not be rewound to where the test began ({problem}): give it a "
                "larger journal, @pytest.mark.jrnl(journal=...)"
            )
        else:
            warning = ""
        try:
            with self.store.recover(_SNAPSHOT) as recovery:
                recovery.restore()
        except (JrnlError, OSError) as error:
            self._make_again(str(error))
        if warning:
            warnings.warn(pytest.PytestWarning(warning), stacklevel=1)

    def _make_again(self, problem: str) -> None:
        if not self._is_made:
            raise InvalidArgument(
                f"the store that jrnl_store_options gives cannot be put back ({problem}): let it "
                "give a function that makes the store"
            )
        self.close()
        self.store = self._make()
        self._note()

    def close(self) -> None:
        """Close the store, if it was made here."""
        if self._is_made:
            with suppress(JrnlError, OSError):
                self.store.close()


def _leave_edits(store: Store) -> None:
    """Leave ``edit`` blocks that a test has left open, which something still refers to."""
    try:
        store._engine.check_settled()
    except EditOpen:
        volumes = {id(volume) for volume in store.volumes.values()}
        for found in gc.get_objects():
            if type(found) is Edit and volumes & {*map(id, gc.get_referents(found))}:
                found.__exit__(EditOpen, None, None)
