"""What public objects say of themselves, and that none of them is copied by half."""

from __future__ import annotations

import copy
import pickle

import pytest

import jrnl


def objects(store):
    store.volume.write(0, b"one")
    store.snapshot("shot")
    return [
        store,
        store.volume,
        store.journal,
        store.snapshots["shot"],
        store.view(0),
        store.view(0, writable=True),
        store.recover(0),
        store.pin(store.seq),
        store.savepoint(),
        store.mark("named"),
        store.mark(),
        store.volume.as_file(),
        store.volume.edit(0, 1),
        store.plan(0),
        store.window,
        store.stats(),
    ]


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("end", ["open", "closed", "damaged"])
def test_repr_never_raises(images, end):
    store = jrnl.create(size=4096, journal="64KiB", images=images)
    if images == "after":
        store.snapshot("base").wait()
    store.volume.write(0, b"zero")
    found = [store, store.volume, store.journal, *store.snapshots.values()]
    if images != "after":
        found = objects(store)
    for part in found:
        if end == "closed" and hasattr(part, "close") and part is not store:
            part.close()
    if end == "closed":
        store.close()
    if end == "damaged":
        for k in range(store._engine.entry_count):
            store._engine._damage_header(k, 3, 255)
    for part in found:
        assert isinstance(repr(part), str)


def test_what_belongs_to_a_store_is_not_pickled_or_copied_and_says_what_to_do():
    store = jrnl.create(size=4096, journal="64KiB")
    for part in objects(store)[:9]:
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"cannot be pickled or copied.*jrnl\.open"):
                attempt(part)


def test_a_bookmark_survives_a_copy():
    store = jrnl.create(size=4096, journal="64KiB")
    store.volume.write(0, b"one")
    mark = pickle.loads(pickle.dumps(store.mark()))
    store.volume.write(0, b"two")
    assert store.view(mark).read(0, 3) == b"one"


def test_another_stores_bookmark_is_no_point_of_this_one():
    one, other = (jrnl.create(size=4096, journal="64KiB") for _ in range(2))
    for store in (one, other):
        store.volume.write(0, b"x")
    for call in (one.view, one.recover, one.rewind, one.plan, one.digest, one.pin):
        with pytest.raises(jrnl.UnknownPoint, match="another store"):
            call(other.mark())
    with other.savepoint() as start, pytest.raises(jrnl.UnknownPoint):
        one.view(start)


def test_a_bookmark_older_than_the_entry_of_its_seq_is_of_a_write_that_was_lost():
    store = jrnl.create(size=4096, journal="64KiB")
    store.volume.write(0, b"x")
    mark = store.mark()
    for time_ns in (mark.time_ns - 10**9, 0):
        with pytest.raises(jrnl.UnknownPoint):
            store.view(mark._replace(time_ns=time_ns))
    store.rewind(0)
    start = store.mark()
    store.volume.write(0, b"y")
    store.rewind(start)  # its entry is another one's now
    store.volume.write(0, b"z")
    assert store.view(start).read(0, 1) == bytes(1)
