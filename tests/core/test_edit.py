"""`Volume.edit`: a range of production, lent out for writing in place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

import jrnl
from tests.model.fingerprint import fingerprint, unchanged

SIZE = 32768
IMAGES = ["before", "after", "both"]


@pytest.fixture(params=IMAGES)
def store(request):
    with jrnl.create(size=SIZE, journal="64KiB", images=request.param) as made:
        made.volume.write(0, bytes(range(256)) * 4)
        made.snapshot("start")
        yield made


def test_what_is_written_in_an_edit_is_one_entry_and_can_be_brought_back(store):
    with store.volume.edit(10, 5) as lent:
        assert (lent.dtype, lent.shape) == (np.uint8, (5,))
        assert lent.tobytes() == bytes(range(10, 15))
        lent[1:3] = 200
    assert store.seq == 2
    assert store.volume.read(9, 7) == bytes([9, 10, 200, 200, 13, 14, 15])
    entry = store.journal.entries[-1]
    assert (entry["kind"], entry["offset"], entry["length"]) == (jrnl.Kind.WRITE, 10, 5)
    assert store.recover(1).read(9, 7) == bytes(range(9, 16))
    assert store.recover(2, base="start").read(11, 1) == bytes([200])
    assert store.verify().ok


def test_the_lent_array_is_production_itself(store):
    production = store.volume.as_array()
    with store.volume.edit(0, SIZE // 8) as lent:
        assert np.shares_memory(lent, production)
        lent[7] = 99
        assert production[7] == 99
        assert store.volume.read(7, 1) == bytes([99])
        target = bytearray(4)
        store.volume.readinto(6, target)
        assert target[1] == 99


def test_an_exception_puts_the_old_bytes_back_and_goes_on(store):
    before = store.digest()
    with pytest.raises(ZeroDivisionError), store.volume.edit(100, 50) as lent:
        lent[:] = 1
        1 / 0  # noqa: B018
    assert store.digest() == before
    assert store.seq == 2
    assert store.recover(2, base="start").read(0, 1024) == bytes(range(256)) * 4
    assert store.verify().ok


def test_the_array_is_read_only_after_the_edit(store):
    with store.volume.edit(0, 5) as lent:
        pass
    with pytest.raises(ValueError, match="read-only"):
        lent[0] = 1


def test_an_edit_of_nothing_adds_no_entry_and_holds_nothing_up(store):
    with unchanged(store), store.volume.edit(SIZE, 0) as lent:
        assert lent.size == 0
        store.digest()


def test_writes_elsewhere_go_on_inside_an_edit(store):
    expected = bytearray(store.volume.read(0, 1100))
    with store.volume.edit(1000, 10) as lent:
        lent[:5] = 1
        store.volume.write(990, b"0123456789")
        store.volume.write_many([1010, 1020], b"ab")
        store.volume.discard(1030, 5)
        lent[5:] = 2
    expected[990:1011] = b"0123456789" + bytes([1] * 5 + [2] * 5) + b"a"
    expected[1020:1021] = b"b"
    expected[1030:1035] = bytes(5)
    assert store.volume.read(0, 1100) == expected
    for state in range(1, store.seq + 1):
        store.recover(state, base="start")
    assert store.verify().ok


def test_views_and_recoveries_taken_before_are_read_inside_an_edit(store):
    view, recovery = store.view(1), store.recover(1)
    with store.volume.edit(0, 10) as lent:
        lent[:] = 255
        assert recovery.read(0, 10) == bytes(range(10))
        assert view.read(0, 10) == bytes(range(10))
    assert view.read(0, 12) == recovery.read(0, 12) == bytes(range(12))


def test_edits_nest_where_they_do_not_overlap(store):
    with store.volume.edit(0, 10) as outer, store.volume.edit(10, 10) as inner:
        inner[:] = 7
        outer[:] = 8
    assert store.seq == 3
    assert store.volume.read(0, 20) == bytes([8] * 10 + [7] * 10)


def test_edits_may_be_left_in_any_order_each_with_its_own_end(store):
    volume = store.volume
    stacks = [ExitStack() for _ in range(3)]
    lent = [stack.enter_context(volume.edit(100 * k, 10)) for k, stack in enumerate(stacks)]
    for k, array in enumerate(lent):
        array[:] = 50 + k
    stacks[0].close()
    with pytest.raises(ZeroDivisionError), stacks[1]:
        1 / 0  # noqa: B018
    with pytest.raises(jrnl.EditOpen):
        store.flush()
    stacks[2].close()
    store.flush()
    assert volume.read(0, 10) == bytes([50] * 10)
    assert volume.read(100, 10) == bytes(range(100, 110))
    assert volume.read(200, 10) == bytes([52] * 10)
    assert store.recover(1).read(200, 10) == bytes(range(200, 210))
    assert store.verify().ok


def test_an_edit_in_each_of_two_volumes_does_not_overlap():
    with jrnl.create(volumes={"a": 100, "b": 100}) as store:
        with store["a"].edit(0, 10) as first, store["b"].edit(0, 10) as second:
            first[:], second[:] = 1, 2
        assert store["a"].read(0, 1) + store["b"].read(0, 1) == b"\x01\x02"


def test_an_edit_is_entered_once_at_a_time(store):
    edit = store.volume.edit(0, 10)
    with edit, pytest.raises(jrnl.InvalidArgument, match="open already"):
        edit.__enter__()
    with edit as lent:
        lent[:] = 3
    assert store.volume.read(0, 10) == bytes([3] * 10)
    edit.__exit__(None, None, None)


def test_an_edit_is_left_on_the_thread_that_opened_it(store):
    edit, raised = store.volume.edit(0, 10), []

    def leave() -> None:
        try:
            edit.__exit__(None, None, None)
        except jrnl.InvalidArgument as error:
            raised.append(str(error))

    with edit:
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join(5)
    assert raised == ["an edit must be left on the thread that opened it"]
    store.flush()


@pytest.mark.parametrize("images", IMAGES)
def test_the_journal_wraps_around_edits(images):
    with jrnl.create(size=SIZE, journal="16KiB", images=images) as store:
        random = np.random.default_rng(5)
        states = {0: bytes(SIZE)}
        store.snapshot("s")
        for k in range(200):
            offset, length = int(random.integers(SIZE - 1500)), int(random.integers(1, 1500))
            with store.volume.edit(offset, length) as lent:
                lent[::2] = k
            states[store.seq] = store.volume.read(0, SIZE)
            if k == 190:
                store.snapshot("late")
        assert store.verify().ok
        oldest, newest = store.window
        assert newest == 200
        assert oldest < 200 if images != "after" else oldest == 191
        for state in range(oldest, newest + 1):
            assert store.recover(state).read(0, SIZE) == states[state]


def test_an_edit_that_is_refused_leaves_nothing_open(store):
    with unchanged(store):
        for offset, length, error in [
            (SIZE - 1, 2, jrnl.OutOfBounds),
            (-1, 2, jrnl.OutOfBounds),
            (SIZE + 1, 0, jrnl.OutOfBounds),
            (0, SIZE, jrnl.EntryTooLarge),
        ]:
            with pytest.raises(error):
                store.volume.edit(offset, length).__enter__()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (store.volume.write(0, b"x"), done.set()))
    thread.start()
    assert done.wait(5)
    thread.join()


def test_rewind_takes_an_edit_back():
    with jrnl.create(size=SIZE) as store:
        before = fingerprint(store)["digest"]
        with store.volume.edit(5, 500) as lent:
            lent[:] = 3
        assert store.rewind(0).bytes == 500
        assert store.digest() == before


def test_an_edit_that_is_never_left_is_undone_when_it_goes(store):
    def lend() -> Iterator[np.ndarray]:
        with store.volume.edit(0, 10) as lent:
            yield lent

    generator = lend()
    next(generator)[:] = 9
    del generator
    assert store.volume.read(0, 10) == bytes(range(10))
    edit = store.volume.edit(0, 10)
    edit.__enter__()[:] = 9
    del edit
    assert store.volume.read(0, 10) == bytes(range(10))
    store.flush()
    assert store.verify().ok
