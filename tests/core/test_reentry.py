"""Calls from inside another one on the same thread (I11): handlers, finalizers, callbacks, traces.

A second call comes in at one opcode of the first one after another. What both show, and what the
store is afterwards, must be what it is where the second came before the first, or after it; or the
second was refused, and all is as if it had never been made.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import jrnl
from jrnl import snapshot_copier
from tests.model.opcodes import Opcodes

SIZES = {"a": 9000, "b": 5000}
PLACES = int(os.environ.get("JRNL_REENTRY_PLACES", "1"))  # in each pair of calls
SHARES = 11  # of the pairs that each kind of store has in the default run
REFUSED = (
    jrnl.PointExpired,
    jrnl.UnknownPoint,
    jrnl.PinnedPoint,
    jrnl.ProductionChanged,
    jrnl.NameTaken,
    jrnl.JournalFull,
    jrnl.InvalidArgument,  # what needs before-images, where there are none
    jrnl.StoreClosed,
)
Call = Callable[[jrnl.Store], object]


class Second(Opcodes):
    """Makes a call at the n-th opcode of another one, or counts them."""

    def __init__(self, at: int, call: Callable[[], object]) -> None:
        self.at = at
        self.call = call
        self.count = 0
        self.result: object = None

    def step(self, frame: FrameType) -> None:
        self.count += 1
        if self.count == self.at:
            sys.settrace(None)
            self.result = self.call()


def content(state: Any, names: Any = SIZES) -> dict[str, bytes]:
    return {name: state.read(0, SIZES[name], name) for name in names}


def facts(store: jrnl.Store) -> dict[str, object]:
    """All that can be seen of a store."""
    states = {}
    for seq in range(store.window.oldest, store.seq + 1):
        try:
            with store.recover(seq) as recovery:
                states[seq] = content(recovery)
        except jrnl.PointExpired:  # a rewind dropped it
            continue
    shots = store.snapshots.values()
    return {
        "window": store.window,
        "states": states,
        "production": {name: store[name].read(0, size) for name, size in SIZES.items()},
        "snapshots": {shot.name: (shot.seq, content(shot, shot.volumes)) for shot in shots},
        # By what they show: which of two calls has made its own first is not what they give.
        "recoveries": [(r.seq, r.base, content(r)) for r in store.recoveries.values()],
        "marks": {name: mark.seq for name, mark in store.marks.items()},
        "pins": [(pin.name, pin.seq) for pin in store.pins],
        "problems": store.verify().problems,
        "kinds": store.journal.entries["kind"].tolist(),
    }


def shown(found: Any) -> object:
    """What can be compared of what a call gives."""
    if isinstance(found, jrnl.Recovery):
        shows = found.seq, found.base, content(found)
        found.close()
        return shows
    if isinstance(found, jrnl.View):
        with found:
            return found.seq, content(found)
    if isinstance(found, jrnl.Plan):
        return found, found.oldest_after_restore
    if isinstance(found, jrnl.Mark):
        return found.name, found.seq
    if isinstance(found, jrnl.Snapshot):
        return found.wait(), found.seq, content(found)
    if isinstance(found, jrnl.Pin):
        found.release()
        return found.seq
    if isinstance(found, jrnl.Stats):
        return found._replace(seconds=0.0)
    if isinstance(found, jrnl.Rewind):
        return found[1:]
    return found.tolist() if hasattr(found, "tolist") else found


class Broken(Exception):
    pass


def entered(store: jrnl.Store) -> Any:
    block = store.savepoint("try")
    block.__enter__()
    store["a"].write(40, b"dropped" * 20)
    return block


def edited(store: jrnl.Store, seq: int) -> jrnl.View:
    view = store.view(seq, writable=True)
    view.write(90, b"promoted" * 30, "a")
    view.discard(4000, 900, "b")
    return view


NEWEST = 65  # when a call is made
OLD = NEWEST - 8
FIRSTS: dict[str, Any] = {
    "recover": lambda store: store.recover(NEWEST),
    "recover an old state": lambda store: store.recover(OLD),
    "recover from a snapshot": lambda store: store.recover(OLD, "old"),
    "recover, undoable": lambda store: store.recover(OLD, undoable=True),
    "seek": (
        lambda store: store.recover(NEWEST - 9, undoable=True),
        lambda store, recovery: recovery.seek(NEWEST - 2) or recovery,
    ),
    "again": (
        lambda store: store.recover(OLD, None if store._engine.images == 1 else "old"),
        lambda store, recovery: recovery.again(NEWEST - 3 if recovery.base == "old" else None),
    ),
    "restore": (
        lambda store: store.recover(NEWEST - 7),
        lambda store, recovery: recovery.restore()[2],
    ),
    "close a recovery": (
        lambda store: store.recover(NEWEST - 7),
        lambda store, recovery: recovery.close(),
    ),
    "view": lambda store: store.view(NEWEST),
    "view an old state": lambda store: store.view(OLD),
    "view a snapshot": lambda store: store.view("old"),
    "view, pinned": lambda store: store.view(OLD, pinned=True),
    "promote": (
        lambda store: edited(store, NEWEST),
        lambda store, view: view.promote()[2],
    ),
    "promote, forced": (
        lambda store: edited(store, NEWEST - 2),
        lambda store, view: view.promote(force=True)[2],
    ),
    "what a view has changed": (
        lambda store: edited(store, OLD),
        lambda store, view: view.diff(),
    ),
    "diff of states": (
        lambda store: store.view(OLD),
        lambda store, view: store.diff(view),
    ),
    "digest of a view": (
        lambda store: edited(store, OLD),
        lambda store, view: view.digest(),
    ),
    "rewind, closing views": (
        lambda store: (store.view(NEWEST), store.view(NEWEST - 1, True)),
        lambda store, views: store.rewind(NEWEST - 3, close_views=True),
    ),
    "states": lambda store: store.states(),
    "plan": lambda store: store.plan(OLD),
    "digest": lambda store: store.digest(),
    "digest of an old state": lambda store: store.digest(OLD),
    "diff": lambda store: store.diff(OLD, NEWEST, exact=True),
    "stats": lambda store: store.stats(),
    "history": lambda store: store.history(0, 5000, "a")["seq"],
    "window": lambda store: store.window,
    "marks": lambda store: {name: mark.seq for name, mark in store.marks.items()},
    "verify": lambda store: store.verify().problems,
    "bookmark": lambda store: store.mark(),
    "mark": lambda store: store.mark("first"),
    "pin": lambda store: store.pin(OLD),
    "pin a mark": lambda store: store.mark("first", pinned=True),
    "unpin": lambda store: store.unpin("pinned"),
    "snapshot": lambda store: store.snapshot("first"),
    "delete a snapshot": (lambda store: store.snapshots["old"], lambda store, shot: shot.delete()),
    "rewind": lambda store: store.rewind(NEWEST - 3),
    "savepoint": (
        entered,
        lambda store, block: block.__exit__(Broken, Broken(), None),
    ),
    "write": lambda store: store["a"].write(100, b"first" * 100),
    "flush": lambda store: store.flush(),
}
SECONDS: dict[str, Call] = {
    "write": lambda store: store["a"].write(120, b"second " * 90),
    "discard": lambda store: store["b"].discard(100, 4500),
    "mark": lambda store: shown(store.mark("second")),
    "snapshot": lambda store: shown(store.snapshot("second")),
    "delete": lambda store: [shot.delete() for shot in store.snapshots.values()],
    "rewind": lambda store: shown(store.rewind(NEWEST - 4)),
    "recover": lambda store: shown(store.recover(NEWEST - 5)),
    "restore": lambda store: store.recover(NEWEST - 6).restore()[2],
    "promote": lambda store: edited(store, NEWEST - 1).promote(force=True)[2],
    "verify": lambda store: store.verify().problems,
    "bookmark": lambda store: shown(store.mark()),
    "pin": lambda store: shown(store.pin(OLD)),
}
FOLDERS: list[str] = []


def new_folder() -> Path:
    """In memory: each pair of calls needs a store of its own."""
    return Path(FOLDERS[0], str(len(os.listdir(FOLDERS[0]))))


@pytest.fixture(autouse=True)
def folders() -> Iterator[None]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        FOLDERS[:] = [folder]
        yield


KINDS = ["both", "before", "after", "fold", "disk"]


def make(kind: str) -> jrnl.Store:
    """A store whose journal is full: its next writes push entries out."""
    on_disk = kind.startswith("disk")
    folds = kind.endswith("fold")
    store = jrnl.create(
        new_folder() if on_disk else None,
        volumes=SIZES,
        journal="96KiB" if on_disk else "16KiB",
        images=kind if kind in ("before", "after") else "both",
        overflow="fold" if folds else "evict",
    )
    more = 600 if on_disk else 0  # a log takes more to be full
    for k in range(NEWEST - 31):
        store["ab"[k % 2]].write(k * 100, bytes([k + 1]) * (100 + 3 * k + more))
    store.mark("pinned", pinned=kind == "before")
    store.snapshot("old").wait()
    while store.seq < NEWEST:
        k = store.seq
        store["ab"[k % 2]].write(k * 50, bytes([k + 100]) * (50 + k + more))
    return store


def prepared(first: Any, store: jrnl.Store) -> Callable[[], object]:
    if not isinstance(first, tuple):
        return lambda: first(store)
    prepare, call = first
    ready = prepare(store)
    return lambda: call(store, ready)


def outcome(call: Callable[[], object]) -> object:
    """What a call gives, or the class of what it raises."""
    try:
        return call()
    except (*REFUSED, jrnl.StoreBusy) as error:
        return type(error).__name__


def in_turn(kind: str, first: Any, second: Call | None, *, second_first: bool = False) -> Any:
    """What both show, and what is then, where one comes after the other."""
    with make(kind) as store:
        try:
            call = prepared(first, store)
        except REFUSED:
            return None
        two = outcome(lambda: second(store)) if second is not None and second_first else None
        one = outcome(call)
        if second is not None and not second_first:
            two = outcome(lambda: second(store))
        return outcome(lambda: shown(one)), two, facts(store)  # the second may have deleted it


def check_pairs(name: str, kind: str, places: int, seconds: dict[str, Call]) -> None:
    """Have each of the seconds come in at some places of a first call."""
    first = FIRSTS[name]
    alone = in_turn(kind, first, None)
    if alone is None:  # there is no such recovery
        return
    counting = Second(-1, lambda: None)
    with make(kind) as store:
        call = prepared(first, store)
        counting.during(lambda call=call: outcome(call))
    assert counting.count or name == "write"
    for k, (inner, second) in enumerate(seconds.items()):
        wanted = [
            in_turn(kind, first, second, second_first=True),
            in_turn(kind, first, second),
        ]
        step = max(counting.count // places, 1)
        for at in range(1 + (2 * k + 1) * step // (2 * len(seconds)), counting.count, step):
            with make(kind) as store:
                call = prepared(first, store)
                strike = Second(
                    at, lambda store=store, second=second: outcome(lambda: second(store))
                )
                one = strike.during(lambda call=call: outcome(call))
                result = outcome(lambda one=one: shown(one))
                found = result, strike.result, facts(store)
            if strike.result == "StoreBusy":
                found, expected = (result, None, found[2]), [alone]
            elif strike.result == "JournalFull" and kind.endswith("fold"):
                # it would have had to fold while the first one does: nothing of it may be seen
                expected = [*wanted, (alone[0], "JournalFull", alone[2])]
            else:
                expected = wanted
            assert found in expected, (inner, at)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FIRSTS)
def test_a_call_inside_another_one_comes_before_it_or_after_it_or_is_refused(
    name, kind, seed, monkeypatch
):
    monkeypatch.setattr(snapshot_copier, "automatic", False)
    turn = KINDS.index(kind) + list(FIRSTS).index(name) + seed
    seconds = list(SECONDS.items())[turn % SHARES :: SHARES]  # another share each run
    check_pairs(name, kind, 1, dict(seconds))


@pytest.mark.long
@pytest.mark.parametrize("kind", [*KINDS, "disk fold"])
@pytest.mark.parametrize("name", FIRSTS)
def test_any_call_inside_any_other_one_comes_before_it_or_after_it_or_is_refused(
    name, kind, monkeypatch
):
    monkeypatch.setattr(snapshot_copier, "automatic", False)
    check_pairs(name, kind, PLACES, SECONDS)


def gone(made: Any) -> None:
    made.delete() if isinstance(made, jrnl.Snapshot) else made.close()


@pytest.mark.parametrize("overflow", ["evict", "fold"])
def test_with_after_images_on_disk_nothing_comes_into_a_copy_of_production(
    overflow, tmp_path, monkeypatch
):
    """There is no past to read it from: what came in would be in the copy, too."""
    monkeypatch.setattr(snapshot_copier, "automatic", False)
    makers: dict[str, Call] = {
        "snapshot": lambda store: store.snapshot("first"),
        "recover": lambda store: store.recover(store.seq, "production"),
    }
    with jrnl.create(tmp_path / "s", volumes=SIZES, images="after", overflow=overflow) as store:
        store["a"].write(0, b"first" * 500)
        for make_it in makers.values():
            counting = Second(-1, lambda: None)
            made = counting.during(lambda make_it=make_it: make_it(store))
            gone(made)
            for at in range(1, counting.count, max(counting.count // (8 * PLACES), 1)):
                before = {name: store[name].read(0, size) for name, size in SIZES.items()}
                data = bytes([at % 251]) * 90
                strike = Second(at, lambda data=data: outcome(lambda: store["b"].write(4050, data)))
                found = strike.during(lambda make_it=make_it: outcome(lambda: make_it(store)))
                wrote = strike.result
                if found == "PointExpired":  # production is a later state by now
                    assert isinstance(wrote, int)
                    continue
                expected = dict(before)
                if isinstance(wrote, int) and wrote <= found.seq:
                    expected["b"] = before["b"][:4050] + data + before["b"][4140:]
                assert content(found) == expected, (at, wrote, found.seq)
                gone(found)


# The call outside, of a store and a recovery of it, and the one that comes in.
COPIES: dict[str, tuple[Any, Any]] = {
    "recover": (
        lambda store, _: store.recover(store.seq, "production"),
        lambda store, _: store.recover(store.seq, "production"),
    ),
    "again": (lambda _, first: first.again(first.seq + 1), lambda _, first: first.close()),
    "close": (
        lambda _, first: first.close(),
        lambda store, _: store.recover(store.seq, "production"),
    ),
    "delete": (
        lambda store, _: store.snapshots["other"].delete(),
        lambda store, _: store.recover(store.seq, "other"),
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_what_a_recovery_starts_from_stays_whoever_comes_and_goes_meanwhile(
    name, tmp_path, monkeypatch
):
    """Files that nobody listed as needed yet, or no longer, went with the call that came in."""
    monkeypatch.setattr(snapshot_copier, "automatic", False)
    outer, inner = COPIES[name]
    path = tmp_path / "s"
    jrnl.create(path, volumes=SIZES, images="after").close()

    def once(at: int) -> Second:
        with jrnl.open(path) as store:
            base = store.snapshot("base")
            for k in range(3):
                store["a"].write(50 * k, bytes([at % 200 + k]) * 300)
            held = store.recover(store.seq - 1)
            base.delete()  # the copy is for recoveries alone
            assert held.plan.base == "base"
        with jrnl.open(path) as store:
            (first,) = store.recoveries.values()
            store.snapshot("other")
            strike = Second(at, lambda: outcome(lambda: inner(store, first)))
            made = strike.during(lambda: outcome(lambda: outer(store, first)))
            first.close()
            if "other" in store.snapshots:
                store.snapshots["other"].delete()
            expected = {found.id: content(found) for found in store.recoveries.values()}
            assert made in (None, "StoreClosed") or made.id in expected
        with jrnl.open(path) as store:
            assert store.problems == []
            assert {found.id: content(found) for found in store.recoveries.values()} == expected
            for found in store.recoveries.values():
                found.again().close()
                found.close()
        return strike

    count = once(-1).count
    for at in range(1, count, max(count // 25, 1)):
        once(at)
