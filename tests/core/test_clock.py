"""A clock of the caller's own may do anything, the store's own methods among it."""

import pytest

import jrnl

OPERATIONS = {
    "write": lambda store: store.volume.write(0, b"outer"),
    "write_many": lambda store: store.volume.write_many([0, 8], b"outerOUTER"),
    "discard": lambda store: store.volume.discard(0, 4096),
    "mark": lambda store: store.mark("outer"),
    "flush": lambda store: store.flush(),
    "rewind": lambda store: store.rewind(store.window.oldest + 1),
    "restore": lambda store: store.recover(store.window.oldest + 1).restore(),
}


class Meddler:
    """A clock that calls `act` once, when it is armed."""

    def __init__(self):
        self.act = None

    def __call__(self):
        act, self.act = self.act, None
        if act:
            act()
        return 1


def full_store(clock):
    """A store whose ring of images is full, and each of its states."""
    store = jrnl.create(size=8192, journal="16KiB", clock=clock)
    states = [bytes(8192)]
    for number in range(1, 40):
        store.volume.write(0, bytes([number]) * 900)
        states.append(store.volume.read(0, 8192))
    return store, states


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_clock_that_writes_leaves_two_whole_operations(operation):
    clock = Meddler()
    store, states = full_store(clock)
    clock.act = lambda: store.volume.write(100, b"inner")
    OPERATIONS[operation](store)
    assert clock.act is None
    assert store.verify().ok
    for seq in range(store.window.oldest, store.window.newest + 1):
        if seq < len(states) and operation != "rewind":
            assert store.recover(seq).read(0, 8192) == states[seq]
    if operation == "rewind":
        assert store.volume.read(0, 8192) == store.recover(store.seq).read(0, 8192)


def test_a_clock_that_writes_as_an_edit_begins_leaves_two_whole_entries():
    clock = Meddler()
    store, states = full_store(clock)
    clock.act = lambda: store.volume.write(100, b"inner")
    with store.volume.edit(0, 8) as lent:
        lent[:] = 1
    assert store.verify().ok
    for seq in range(store.window.oldest, len(states)):
        assert store.recover(seq).read(0, 8192) == states[seq]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_clock_that_closes_the_store_ends_the_operation(operation):
    clock = Meddler()
    store, _ = full_store(clock)
    clock.act = store.close
    with pytest.raises(jrnl.StoreClosed):
        OPERATIONS[operation](store)


def test_a_clock_that_closes_a_store_on_disk_as_an_edit_ends_leaves_its_files_alone(tmp_path):
    clock = Meddler()
    store = jrnl.create(tmp_path / "s", size=8192, clock=clock)
    edit = store.volume.edit(0, 8)
    edit.__enter__()[:] = 1
    clock.act = store.close
    with pytest.raises(jrnl.StoreClosed):  # and no write to a descriptor that others have by now
        edit.__exit__(None, None, None)
    with jrnl.open(tmp_path / "s") as again:
        assert again.volume.read(0, 8) == bytes(8)


@pytest.mark.parametrize("now", [1.5, None, "now", float("nan")])
def test_a_clock_must_give_whole_nanoseconds(now):
    with pytest.raises(jrnl.InvalidType, match="nanoseconds"):
        jrnl.create(size=4096, clock=lambda: now)


def test_a_clock_must_give_a_time_that_fits():
    with pytest.raises(jrnl.InvalidArgument, match="64 bits"):
        jrnl.create(size=4096, clock=lambda: 2**63)
