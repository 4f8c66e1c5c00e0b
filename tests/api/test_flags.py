"""Flags are True or False: text that says 'no' is no yes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jrnl
from tests.model.fingerprint import unchanged

NO_FLAGS = ["no", "", "data", ["data"], 0, 1, 1.0, None, np.int64(1), np.array([True])]

CALLS: dict[str, Callable[[jrnl.Store, object], object]] = {
    "Store.mark pinned": lambda store, flag: store.mark("new", pinned=flag),
    "Store.snapshot pinned": lambda store, flag: store.snapshot("new", pinned=flag),
    "Store.recover undoable": lambda store, flag: store.recover(0, undoable=flag),
    "Store.view writable": lambda store, flag: store.view(0, writable=flag),
    "Store.view pinned": lambda store, flag: store.view(0, pinned=flag),
    "Store.diff exact": lambda store, flag: store.diff(0, 1, exact=flag),
    "Store.fork history": lambda store, flag: store.fork(history=flag),
    "Store.rewind close_views": lambda store, flag: store.rewind(store.seq, close_views=flag),
    "View.view writable": lambda store, flag: store.view(0).view(writable=flag),
    "View.diff exact": lambda store, flag: store.view(0).diff(exact=flag),
    "View.promote force": lambda store, flag: store.view(store.seq, True).promote(force=flag),
    "State.diff exact": lambda store, flag: store.recover(0).diff(store, exact=flag),
    "Recovery.restore dry_run": lambda store, flag: store.recover(0).restore(dry_run=flag),
    "Recovery.restore everything": lambda store, flag: store.recover(0).restore(everything=flag),
}
MAKERS: dict[str, Callable[[object], jrnl.Store]] = {
    "create": lambda flag: jrnl.create(size=4096, checksum=flag),
    "wrap": lambda flag: jrnl.wrap(bytearray(4096), checksum=flag),
}


@pytest.fixture
def store():
    with jrnl.create(size=4096, journal="64KiB") as made:
        made.volume.write(0, b"one")
        yield made


@pytest.mark.parametrize("call", CALLS)
def test_only_a_bool_is_a_flag(store, call):
    for flag in NO_FLAGS:
        with (
            unchanged(store),
            pytest.raises(jrnl.InvalidType, match=f"{call.split()[1]} must be True or False"),
        ):
            CALLS[call](store, flag)


@pytest.mark.parametrize("flag", [False, np.False_, True, np.True_])
def test_numpy_may_say_it(store, flag):
    for call, act in CALLS.items():
        if call not in ("Store.mark pinned", "Store.snapshot pinned"):
            act(store, flag)
    assert store.snapshot("new", pinned=flag).pinned is bool(flag)
    store.mark("mark", pinned=flag)
    assert [pin.name for pin in store.pins] == ["mark"] * bool(flag)
    assert store.view(0, writable=flag).writable is bool(flag)
    assert store.recover(0, undoable=flag).undoable is bool(flag)


@pytest.mark.parametrize("make", MAKERS)
def test_a_store_is_made_with_bools_alone(make):
    for flag in NO_FLAGS:
        with pytest.raises(jrnl.InvalidType, match="checksum must be True or False"):
            MAKERS[make](flag)
    for flag in (True, np.True_, False, np.False_):
        MAKERS[make](flag).close()


def test_no_folder_is_made_for_a_store_whose_flag_is_none(tmp_path):
    for flag in NO_FLAGS:
        with pytest.raises(jrnl.InvalidType, match="checksum"):
            jrnl.create(tmp_path / "s", size=4096, checksum=flag)
    with pytest.raises(jrnl.InvalidArgument, match="needs its checksums"):
        jrnl.create(tmp_path / "s", size=4096, checksum=np.False_)
    assert list(Path(tmp_path).iterdir()) == []


def test_volumes_in_the_place_of_a_marks_flag_are_refused(store):
    with unchanged(store), pytest.raises(jrnl.InvalidType, match="not list"):
        store.mark("part", ["data"])
    assert dict(store.marks) == {}


def test_every_public_flag_is_looked_at_here():
    found = set()
    for kind in (jrnl.Store, jrnl.View, jrnl.Recovery, jrnl.Snapshot, jrnl.Volume, jrnl.Pin):
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("_"):
                continue
            for flag, parameter in inspect.signature(member).parameters.items():
                if parameter.annotation == "bool":
                    inherited = member is getattr(jrnl.State, name, None)
                    found.add(f"{'State' if inherited else kind.__name__}.{name} {flag}")
    assert found == set(CALLS)
