"""Forks in memory: what they show is theirs, whatever becomes of what they were made of."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import jrnl
from tests.model.amount import SHARE, more_in_long

SIZES = {"odd": 3 * 65536 + 4097 + 13, "small": 600, "even": 65536}


class Line:
    """A store, and what it must show: the content now, and at each state of its window."""

    def __init__(self, store: jrnl.Store, content: dict[str, bytearray]) -> None:
        self.store = store
        self.content = content
        self.states = {store.seq: self.copy()}

    def copy(self) -> dict[str, bytes]:
        return {name: bytes(each) for name, each in self.content.items()}

    def note(self) -> None:
        self.states[self.store.seq] = self.copy()

    def check(self, rng: random.Random) -> None:
        """Some of what it shows now, and one earlier state."""
        for name, wanted in self.content.items():
            start = rng.randrange(len(wanted))
            stop = min(len(wanted), start + rng.choice((1, 13, 4096, 70000)))
            assert self.store[name].read(start, stop - start) == wanted[start:stop]
        seq = rng.choice(self.store.states().tolist())
        if seq in self.states:
            after = self.store.options.images == "after"
            with self.store.recover(seq) if after else self.store.view(seq) as state:
                for name, content in self.states[seq].items():
                    assert state[name].read(0, len(content)) == content

    def check_all(self) -> None:
        for name, wanted in self.content.items():
            assert self.store[name].read(0, len(wanted)) == wanted
        assert self.store.verify().ok


def content_of(state: dict[str, bytes]) -> dict[str, bytearray]:
    return {name: bytearray(content) for name, content in state.items()}


def piece(rng: random.Random, size: int, most: int = 9000) -> tuple[int, int]:
    start = rng.randrange(size)
    return start, min(size - start, rng.choice((1, 17, 512, 4096, most)))


def write(line: Line, rng: random.Random) -> None:
    name = rng.choice([*line.content])
    start, length = piece(rng, len(line.content[name]))
    data = rng.randbytes(length)
    line.store[name].write(start, data)
    line.content[name][start : start + length] = data
    line.note()


def write_many(line: Line, rng: random.Random) -> None:
    name = rng.choice([*line.content])
    size = len(line.content[name])
    length = rng.choice((16, 512))
    offsets = [rng.randrange(size - length) for _ in range(rng.randrange(1, 20))]
    for k, offset in enumerate(offsets):
        line.content[name][offset : offset + length] = bytes([k + 1]) * length
    data = np.repeat(np.arange(1, len(offsets) + 1, dtype=np.uint8), length)
    line.store[name].write_many(offsets, data)
    line.note()


def zero(line: Line, rng: random.Random) -> None:
    name = rng.choice([*line.content])
    start, length = piece(rng, len(line.content[name]), 70000)
    act = line.store[name].discard if rng.random() < 0.5 else line.store[name].write_zeroes
    act(start, length)
    line.content[name][start : start + length] = bytes(length)
    line.note()


def edit(line: Line, rng: random.Random) -> None:
    name = rng.choice([*line.content])
    start, length = piece(rng, len(line.content[name]), 5000)
    keep = rng.random() < 0.6
    try:
        with line.store[name].edit(start, length) as memory:
            assert memory.tobytes() == line.content[name][start : start + length]
            memory[:] = 7
            if not keep:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    else:
        line.content[name][start : start + length] = b"\7" * length
    line.note()


def some_state(line: Line, rng: random.Random) -> int | None:
    seqs = [seq for seq in line.store.states().tolist() if seq in line.states]
    return rng.choice(seqs) if seqs else None


def rewind(line: Line, rng: random.Random) -> None:
    to = some_state(line, rng)
    if to is None or line.store.options.images == "after":
        return
    line.store.rewind(to)
    line.content = content_of(line.states[to])
    line.states = {seq: state for seq, state in line.states.items() if seq <= to}
    line.note()


def restore(line: Line, rng: random.Random) -> None:
    to = some_state(line, rng)
    if to is not None:
        with line.store.recover(to) as recovery:
            recovery.restore()
        line.content = content_of(line.states[to])
        line.note()


def promote(line: Line, rng: random.Random) -> None:
    if line.store.options.images == "after":
        return
    with line.store.view(line.store.seq, writable=True) as view:
        name = rng.choice([*line.content])
        start, length = piece(rng, len(line.content[name]))
        view[name].write(start, b"p" * length)
        view.promote()
    line.content[name][start : start + length] = b"p" * length
    line.note()


def look(line: Line, rng: random.Random) -> None:
    name = rng.choice([*line.content])
    way = rng.randrange(3)
    if way == 0:
        assert line.store[name].as_array().tobytes() == line.content[name]
    elif way == 1:
        with open(line.store[name].path(), "rb") as file:
            assert file.read() == line.content[name]
    else:
        snapshot = line.store.snapshots.get("s") or line.store.snapshot("s")
        if rng.random() < 0.5:
            snapshot.wait()
        if rng.random() < 0.5:
            snapshot.delete()


CHANGES: list[Callable[[Line, random.Random], None]] = [
    write, write, write, write_many, zero, edit, rewind, restore, promote, look,
]  # fmt: skip


def forked(line: Line, rng: random.Random) -> Line:
    to = some_state(line, rng) if rng.random() < 0.4 else None
    options = {"images": rng.choice(("before", "both", "after"))} if rng.random() < 0.3 else {}
    store = line.store.fork(at=to, journal=rng.choice((None, "64KiB", "1MiB")), **options)
    assert store.parent is not None
    assert store.parent.seq == (line.store.seq if to is None else to)
    return Line(store, content_of(line.copy() if to is None else line.states[to]))


def write_much(line: Line, rng: random.Random) -> None:
    """More than the next fork would copy."""
    content = line.content["odd"]
    start = rng.randrange(len(content) - 300_000)
    data = rng.randbytes(10_000)
    for offset in range(start, start + 300_000, len(data)):
        line.store["odd"].write(offset, data)
        content[offset : offset + len(data)] = data
        line.note()


def first_line(rng: random.Random, kind: str) -> Line:
    content = {name: bytearray(size) for name, size in SIZES.items()}
    if kind == "wrapped":
        buffers = {name: bytearray(rng.randbytes(size)) for name, size in SIZES.items()}
        content = {name: bytearray(each) for name, each in buffers.items()}
        return Line(jrnl.wrap(buffers, journal="256KiB"), content)
    return Line(jrnl.create(volumes=SIZES, journal="256KiB", images=kind), content)


@pytest.mark.parametrize("kind", ["before", "both", "after", "wrapped"])
@more_in_long("seeds", 10, 400 // SHARE)
def test_a_family_of_forks_shows_what_was_written_to_each(seeds, kind):
    for seed in range(seeds):
        play(kind, random.Random(f"{kind} {seed}"))


def play(kind: str, rng: random.Random) -> None:
    lines = [first_line(rng, kind)]
    for _ in range(200):
        line = rng.choice(lines)
        turn = rng.random()
        if turn < 0.12 and len(lines) < 12:
            lines.append(forked(line, rng))
        elif turn < 0.17 and len(lines) > 3:
            lines.remove(line)
            if rng.random() < 0.5:
                line.store.close()
            del line
            gc.collect()
        else:
            rng.choice(CHANGES)(line, rng)
        rng.choice(lines).check(rng)
    for line in lines:
        line.check_all()


@pytest.fixture
def shallow():
    """Forks are merged as soon as they can be."""
    before = jrnl._core.set_fork_depth(1)
    yield
    jrnl._core.set_fork_depth(before)


@pytest.mark.usefixtures("shallow")
@more_in_long("seeds", 6, 200 // SHARE)
def test_chains_of_forks_that_write_much_are_merged_and_show_the_same(seeds):
    deepest = 0
    for seed in range(seeds):
        rng = random.Random(f"chain {seed}")
        sizes = {"odd": (1 << 20) + 4097 + 13, "small": 600}
        content = {name: bytearray(size) for name, size in sizes.items()}
        lines = [Line(jrnl.create(volumes=sizes, journal="4MiB"), content)]
        for _ in range(80):
            line = lines[-1] if rng.random() < 0.5 else rng.choice(lines)
            for _ in range(rng.randrange(3)):
                rng.choice([write, zero, rewind, edit, write_much, write_much])(line, rng)
            if rng.random() < 0.6:
                lines.append(forked(line, rng))
                deepest = max(deepest, jrnl._core.fork_facts(lines[-1].store._engine)[0])
            if len(lines) > 10:
                line = lines.pop(rng.randrange(9))
                if rng.random() < 0.5:
                    line.store.close()
                del line
            rng.choice(lines).check(rng)
        for line in lines:
            line.check_all()
    assert 2 < deepest <= 5  # 259 blocks, 65 at the top


@pytest.mark.parametrize("most", [1, 32])
def test_what_a_chain_of_forks_takes_grows_with_what_is_written(most):
    before = jrnl._core.set_fork_depth(most)
    try:
        chain(most)
    finally:
        jrnl._core.set_fork_depth(before)


def chain(most):
    """By how many blocks the stores have of their own, merged ones among them."""
    size, per, depth = 64 << 20, 70, 200
    stores = [jrnl.create(size=size, journal="16KiB")]
    copied, merged = 0, {}
    for k in range(depth):
        engine = stores[-1]._engine
        stores.append(stores[-1].fork())
        found = jrnl._core.merged_states(engine)
        if found is not None:
            merged[k] = found
        for block in range(per):
            stores[-1].volume.write((k * per + block) * 4096, b"%06d" % (k * per + block))
    assert merged
    copied = sum(jrnl._core.fork_facts(each)[1] for each in merged.values())
    assert copied < 10 * per * depth  # log2(200) times all that was written is 8
    assert max(jrnl._core.fork_facts(each._engine)[0] for each in stores) <= max(9, most)
    assert stores[-1].volume.read(12345 * 4096, 6) == b"012345"
    one, other = (stores[-1].fork() for _ in range(2))
    blocks = [jrnl._core.fork_facts(each._engine)[1] for each in (one, other)]
    assert max(blocks) <= 64


def test_state_0_of_a_fork_is_the_present_one_and_its_window_its_own():
    store = jrnl.create(size="1MiB")
    store.volume.write(100, b"before")
    fork = store.fork()
    assert (fork.seq, *fork.window) == (0, 0, 0)
    assert fork.volume.write(100, b"behind") == 1
    assert store.volume.read(100, 6) == b"before"
    fork.rewind(0)
    assert fork.volume.read(100, 6) == b"before"
    assert fork.parent == store.fork().parent
    assert fork.parent.seq == 1
    assert store.parent is None
    assert fork.parent.digest == store.digest()


@pytest.mark.parametrize("way", ["close", "drop", "rewind", "evict", "fold", "overwrite"])
def test_nothing_that_becomes_of_a_store_touches_its_fork(way):
    overflow = "fold" if way == "fold" else "evict"
    store = jrnl.create(size="1MiB", journal="64KiB", overflow=overflow)
    store.mark("start")
    for k in range(5):
        store.volume.write(k * 5000, b"%d" % k * 5000)
    fork, digest = store.fork(), store.digest()
    earlier = store.fork(at="start")
    if way == "close":
        store.close()
    elif way == "drop":
        del store
        gc.collect()
    elif way == "rewind":
        store.rewind("start")
    elif way == "overwrite":
        store.volume.write_zeroes(0, 1 << 20)
    else:
        for k in range(100):
            store.volume.write(k * 4096, bytes([k + 1]) * 4096)
    assert fork.digest() == digest
    assert earlier.volume.read(0, 1 << 20) == bytes(1 << 20)
    fork.volume.write(3, b"x")
    fork.rewind(0)
    assert fork.digest() == digest


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_wrapped_buffer_is_its_owners_again_once_the_store_is_gone(how):
    buffer = bytearray(b"mine" * 5000)
    store = jrnl.wrap(buffer)
    fork = store.fork()
    if how == "close":
        store.close()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    buffer[:] = bytes(20000)
    assert fork.volume.read(0, 20000) == b"mine" * 5000


def test_an_edit_that_is_open_on_one_thread_keeps_no_fork_waiting():
    store = jrnl.create(size="1MiB")
    store.volume.write(0, b"a" * 4096)
    fork = store.fork()
    read: list[bytes] = []
    with store.volume.edit(0, 4096) as memory:
        memory[:] = 98
        thread = threading.Thread(target=lambda: read.append(fork.volume.read(0, 4096)))
        thread.start()
        thread.join(60)
        with pytest.raises(jrnl.EditOpen):
            store.fork()
    assert read == [b"a" * 4096]


def test_many_forks_of_forks_are_read_through_few_of_them():
    store = jrnl.create(size="4MiB", journal="16KiB")
    wanted = bytearray(4 << 20)
    for k in range(3000):
        offset = k * 4099 % (4 << 20)
        store.volume.write(offset, b"%04d" % k)
        wanted[offset : offset + 4] = b"%04d" % k
        store = store.fork()
    assert store.volume.read(0, 4 << 20) == wanted


@pytest.mark.usefixtures("shallow")
def test_forks_of_forks_that_write_much_are_read_through_few_of_them():
    size = 100 * 4096
    store = jrnl.create(size=size, journal="16KiB")
    wanted = bytearray(size)
    for k in range(30):
        for block in range(k, k + 70):
            store.volume.write(block * 4096 + 7, b"%04d" % k)
            wanted[block * 4096 + 7 : block * 4096 + 11] = b"%04d" % k
        parent, before = store, bytes(wanted)
        store = parent.fork()
        parent.volume.write(11, b"apart")
        assert store.volume.read(0, size) == before
    assert jrnl._core.fork_facts(store._engine)[0] <= 3


def test_a_fork_of_much_is_made_again_and_again_at_the_cost_of_what_changes():
    store = jrnl.create(size="16MiB", journal="1MiB").fork()
    for block in range(4096):
        store.volume.write(block * 4096, b"a")
    for block in range(3):
        store = store.fork()
        store.volume.write(block * 4096, b"d")
    children, made = [], 0
    for k in range(40):
        before = jrnl._core.fork_facts(store._engine)[1]
        children.append(store.fork())
        assert jrnl._core.fork_facts(store._engine)[1] == before
        made += jrnl._core.fork_facts(children[-1]._engine)[1]
        assert jrnl._core.merged_states(store._engine) is None
        for block in range(100):
            store.volume.write((k * 100 + block) % 4096 * 4096, b"q")
    assert made <= 64
    assert [child.volume.read(0, 1) for child in children[:2]] == [b"d", b"q"]


@pytest.mark.parametrize("seed", range(3))
def test_states_go_in_every_order_and_the_others_stay(seed):
    rng = random.Random(seed)
    blocks = 40
    for order in itertools.permutations(range(4)):
        store = jrnl.create(size=blocks * 4096, journal="64KiB")
        content, forks, wanted = bytearray(blocks * 4096), {}, {}
        for k in range(4):
            forks[k], wanted[k] = store.fork(), bytes(content)
            for block in rng.sample(range(blocks), rng.choice((1, 3, 30))):
                store.volume.write(block * 4096 + k, b"%d" % k)
                content[block * 4096 + k : block * 4096 + k + 1] = b"%d" % k
        for k in order:
            del forks[k]
            block = rng.randrange(blocks)
            store.volume.write(block * 4096 + 9, b"x")
            content[block * 4096 + 9 : block * 4096 + 10] = b"x"
            for other, fork in forks.items():
                assert fork.volume.read(0, blocks * 4096) == wanted[other], (order, k)
        assert store.volume.read(0, blocks * 4096) == content
        del fork
        assert jrnl._core.fork_facts(store._engine)[2] == 0


def memory_of_this_process() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) << 10


def test_a_fork_takes_no_memory_for_the_size_of_a_volume():
    store = jrnl.create(size="256GiB", journal="64KiB")
    for k in range(10):
        store.volume.write(k * (20 << 30), b"here and there")
    before = memory_of_this_process()
    forks = [store.fork() for _ in range(20)]
    assert memory_of_this_process() - before < 16 << 20  # a map of its own would be 4 MiB in each
    for fork in forks[::7]:
        assert fork.volume.read(9 * (20 << 30), 4) == b"here"
        assert fork.volume.read(9 * (20 << 30) + (1 << 30), 4) == bytes(4)


def test_states_that_no_fork_reads_any_more_are_taken_out():
    store = jrnl.create(size="1MiB", journal="64KiB")
    first = store.fork()
    for k in range(100):
        store.volume.write(k * 4096, b"k" * 4096)
        fork = store.fork()
        store.volume.write(k * 4096, b"m" * 4096)
        assert jrnl._core.fork_facts(store._engine)[2] <= 3
        assert fork.volume.read(k * 4096, 2) == b"kk"
    assert first.volume.read(0, 1 << 20) == bytes(1 << 20)
    del first, fork
    gc.collect()
    assert jrnl._core.fork_facts(store._engine) == (0, 0, 0)


def test_a_call_from_inside_a_fork_comes_before_it_or_after():
    seen: list[bytes] = []

    def clock() -> int:
        if store is not None and not seen:
            seen.append(b"")
            seen.append(store.fork().volume.read(0, 5))
        return 10**18 + len(seen)

    store = None
    store = jrnl.create(size=8192, journal="16KiB", clock=clock)
    store.volume.write(0, b"after")
    assert seen[1:] == [bytes(5)]
    assert store.fork().volume.read(0, 5) == b"after"


def test_threads_write_to_a_store_and_its_forks_at_the_same_time():
    size, rounds = 64 * 4096, 300
    store = jrnl.create(size=size, journal="256KiB")
    store.volume.write_many(range(0, size, 4096), np.ones((64, 4096), np.uint8))
    errors: list[BaseException] = []

    def parent() -> None:
        rng = random.Random(1)
        for k in range(rounds):
            store.volume.write(rng.randrange(64) * 4096, bytes([2 + k % 200]) * 4096)

    def child(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(rounds // 10):
                fork = store.fork()
                wanted = fork.volume.read(0, size)
                assert all(len({*wanted[k : k + 4096]}) == 1 for k in range(0, size, 4096))
                for _ in range(10):
                    k = rng.randrange(64) * 4096
                    fork.volume.write(k + 1, b"child")
                fork.rewind(0)
                assert fork.volume.read(0, size) == wanted
                if rng.random() < 0.5:
                    fork.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=parent)]
    threads += [threading.Thread(target=child, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
