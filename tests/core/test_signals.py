"""What a signal's handler raises, at the places where Python runs handlers, in stores on disk.

Each call is broken off at one such place after another: it is done or undone, the store goes on,
and what it shows then is what the next opening finds.
"""

from __future__ import annotations

import dis
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import jrnl
from jrnl import snapshot_copier
from jrnl._core import to_the_end
from jrnl.points import check_name, looks_like_number
from tests.model.amount import more_in_long
from tests.model.disk_twin import folder_in_memory
from tests.model.opcodes import Opcodes

SIZES = {"a": 20000, "b": 9000}
LOOKS = {  # after these instructions Python looks whether there was a signal
    dis.opmap[name]
    for name in ("CALL", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD")
    if name in dis.opmap
}


class Signal(BaseException):
    pass


class Strike(Opcodes):
    """Raises at the n-th place of a call, or counts them all."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.struck = False
        self._last: dict[FrameType, int] = {}

    def run(self, task: Callable[[], object]) -> None:
        try:
            self.during(task)
        except Signal:
            pass
        finally:
            self._last.clear()

    def step(self, frame: FrameType) -> None:
        last = self._last.get(frame)
        self._last[frame] = frame.f_lasti
        if last is not None and frame.f_code.co_code[last] in LOOKS:
            self.count += 1
            if self.count == self.at:
                self.struck = True
                sys.settrace(None)
                raise Signal


def content(state: Any, names: Any = SIZES) -> dict[str, bytes]:
    return {name: state.read(0, SIZES[name], name) for name in names}


def production(store: jrnl.Store) -> dict[str, bytes]:
    return {name: store[name].read(0, size) for name, size in SIZES.items()}


def states(store: jrnl.Store) -> dict[int, dict[str, bytes]]:
    found = {}
    for seq in range(store.window.oldest, store.seq + 1):
        try:
            with store.view(seq) as view:
                found[seq] = content(view)
        except jrnl.PointExpired:  # a rewind dropped it
            continue
    return found


def facts(store: jrnl.Store) -> dict[str, object]:
    """All that outlives closing."""
    snapshots, recoveries = store.snapshots.values(), store.recoveries.values()
    return {
        "seq": store.seq,
        "production": production(store),
        "states": states(store),
        "snapshots": {shot.name: (shot.seq, content(shot, shot.volumes)) for shot in snapshots},
        "recoveries": {found.id: content(found) for found in recoveries},
        "marks": {name: mark.seq for name, mark in store.marks.items()},
        "pins": [(pin.name, pin.seq) for pin in store.pins if pin.name is not None],
    }


def leave_savepoint(store: jrnl.Store) -> None:
    with pytest.raises(ZeroDivisionError), store.savepoint():
        store["a"].write(0, b"dropped" * 100)
        raise ZeroDivisionError


def seek_and_restore(store: jrnl.Store) -> None:
    recovery = store.recover(store.seq - 6, undoable=True)
    recovery.seek(store.seq - 2)
    recovery.restore()
    recovery.close()


def promote(store: jrnl.Store, seq: int) -> None:
    """What is promoted makes an earlier state of production."""
    view = store.view(seq, writable=True)
    with store.view(store.seq - 6) as old:
        for name, size in SIZES.items():
            view[name].write(0, old.read(0, size, name))
    view.promote(force=seq != store.seq)


def rewind_past_views(store: jrnl.Store) -> None:
    views = [store.view(store.seq, pinned=True), store.view(store.seq - 1, writable=True)]
    store.rewind(store.seq - 3, close_views=True)
    assert not store.views and views


CALLS: dict[str, Callable[[jrnl.Store], object]] = {
    "promote": lambda store: promote(store, store.seq),
    "rewind past views": rewind_past_views,
    "snapshot": lambda store: store.snapshot("new").wait(),
    "delete a snapshot": lambda store: store.snapshots["part"].delete(),
    "mark": lambda store: store.mark("new"),
    "pin a mark": lambda store: store.mark("new", pinned=True),
    "unpin": lambda store: store.unpin("pinned"),
    "restore": lambda store: store.recover(store.seq - 6).restore(),
    "restore a volume": lambda store: store.recover(store.seq - 6).restore(volumes=["b"]),
    "seek and restore": seek_and_restore,
    "restore again": lambda store: store.recoveries[1].again().restore(),
    "close a recovery": lambda store: store.recoveries[1].close(),
    "delete a recovery": lambda store: store.delete_recovery(2),
    "rewind": lambda store: store.rewind(store.seq - 3),
    "leave a savepoint": leave_savepoint,
    "close": lambda store: store.close(),
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    root = folder_in_memory()
    store = jrnl.create(root / "base", volumes=SIZES, journal="256KiB", overlay="64KiB")
    for k in range(30):
        store["ab"[k % 2]].write(k * 200, bytes([k + 1]) * (100 + 17 * k))
        if k == 22:
            store.mark("pinned", pinned=True)
        if k == 24:
            store.snapshot("part", ["b"])
    store.recover(store.seq - 4).restore()
    store.recover(store.seq - 3, undoable=True).restore()
    store.close()
    yield root
    shutil.rmtree(root)


def broken_off(folder: Path, call: str, at: int) -> tuple[jrnl.Store, Strike, dict[int, Any]]:
    """Return a store in which a call was broken off at a place, and what its states were."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    shutil.copytree(folder / "base", folder / "store")
    store = jrnl.open(folder / "store")
    before = states(store)
    strike = Strike(at)
    strike.run(lambda: CALLS[call](store))
    return store, strike, before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a __del__
@more_in_long("places", 2, 30)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_broken_off_is_done_or_undone_and_stays_so(
    folder, call, places, monkeypatch
):
    monkeypatch.setattr(snapshot_copier, "automatic", False)
    store, strike, _ = broken_off(folder, call, 1 << 60)
    store.close()
    step = -(-strike.count // places)
    for at in range(strike.count - step // 2, 0, -step):  # a first run may pass a few places more
        store, strike, before = broken_off(folder, call, at)
        assert strike.struck
        wanted = None
        if not store._engine.closed:
            assert production(store) in before.values()
            store["a"].write(7, b"flushed after the signal")
            store.flush()
            wanted = facts(store)
            store.close()
        with jrnl.open(folder / "store") as again:
            assert again.problems == []
            assert again.verify().ok
            found = facts(again)
            assert all(before[seq] == state for seq, state in found["states"].items()
                       if seq in before)  # fmt: skip
            assert wanted is None or found == wanted


def test_what_a_handler_raises_while_a_name_is_checked_is_heard():
    """Python's ``int`` loses it where it refuses a text."""

    class Boom(BaseException):
        pass

    raised = []

    def handler(*_: object) -> None:
        raised.append(1)
        raise Boom

    dice, heard, before = random.Random(5), 0, signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + dice.random() * 1e-4)
                try:
                    for _ in range(40):
                        check_name("x")
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Boom:
                heard += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(raised) > 100
    assert heard == len(raised)


def test_a_name_is_a_number_where_python_would_read_one(seed):
    dice = random.Random(seed)

    def reads(text: str) -> bool:
        for read in (lambda text: int(text, 0), float):
            try:
                read(text)
            except ValueError:
                continue
            return any(character.isdigit() for character in text)
        return False

    for _ in range(20000):
        letters = "0123789_xXoObBeE+-. afinN\u0663\u00b2\uff11"
        text = "".join(dice.choices(letters, k=dice.randrange(9)))
        assert looks_like_number(text) == reads(text), text


def test_what_judges_an_error_runs_nothing_of_python():
    """There another handler could raise, and nobody would hear it."""
    seen = []

    def raising() -> None:
        raise LookupError

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        to_the_end(raising)  # as often as one may that could be a handler's
    except LookupError:
        pass
    finally:
        sys.setprofile(None)
    assert set(seen) == {"raising"}
