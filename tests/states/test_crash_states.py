"""Crash states against their definition: every state that there may be, and no other."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

import jrnl
from jrnl import crash, logwrites
from tests.model import logs

SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4
MODES = ("prefix", "subset", "torn")


def legal_states(size, ops, mode, start=0):
    """By content, the moments (seq, last flush, last FUA) at which a disk may hold it.

    ops: (seq, offset, data, flags); FLUSH: what came before is durable, FUA: so is this one.
    """
    legal = defaultdict(set)
    moments = [start, *(seq for seq, *_ in ops if seq > start)]
    for moment in moments:
        done = [op for op in ops if op[0] <= moment]
        flushed = max((seq for seq, _, _, flags in done if flags & FLUSH), default=0)
        by_itself = max((seq for seq, _, _, flags in done if flags & FUA), default=0)
        # In order: each part of a write, and whether it may be lost.
        parts = []
        for seq, offset, data, flags in done:
            free = seq >= flushed and not flags & FUA
            cut = SECTOR if mode == "torn" and free else len(data) or 1
            for first in range(0, len(data), cut):
                parts.append((offset + first, data[first : first + cut], free))
        free = [k for k, part in enumerate(parts) if part[2]]
        if mode == "prefix":
            choices = [set(free[k:]) for k in range(len(free) + 1)]
            # A write with FUA can't be there before an earlier one.
            last = max((k for k, part in enumerate(parts) if not part[2]), default=-1)
            choices = [lost for lost in choices if not lost or min(lost) > last]
        else:
            assert len(free) <= 13
            choices = [
                {k for j, k in enumerate(free) if mask >> j & 1} for mask in range(1 << len(free))
            ]
        for lost in choices:
            content = bytearray(size)
            for k, (offset, data, _) in enumerate(parts):
                if k not in lost:
                    content[offset : offset + len(data)] = data
            legal[bytes(content)].add((moment, flushed, by_itself))
    return legal


def random_ops(rng, mode, size, aligned, kinds=(0, 0, 0, FLUSH, FUA, FLUSH | FUA, DISCARD)):
    ops, parts = [], 0
    for seq in range(1, rng.randrange(2, 12)):
        flags = rng.choice(kinds) if aligned else 0
        if rng.random() < 0.2:
            ops.append((seq, 0, b"", FLUSH))
            parts = 0
            continue
        length = SECTOR * rng.randrange(1, 4) if aligned else rng.choice([1, 7, 512, 700, 4096])
        offset = rng.randrange(size - length + 1)
        if aligned:
            offset -= offset % SECTOR
        if flags & FLUSH:
            parts = 0
        parts += 0 if flags & FUA else length // SECTOR if mode == "torn" else 1
        if parts > 12:
            break
        fill = 0 if flags & DISCARD else rng.randrange(1, 3)
        ops.append((seq, offset, bytes([fill]) * length, flags))
    return ops


def as_log(path, ops, size):
    entries = [
        logs.discard(offset // SECTOR, len(data) // SECTOR, flags & ~DISCARD)
        if flags & DISCARD
        else logs.write(offset // SECTOR, data, SECTOR, flags)
        for _, offset, data, flags in ops
    ]
    path.write_bytes(logs.pack_log(entries, SECTOR))
    return logwrites.attach(path, size=size)


def as_store(ops, size, images):
    """A store with the same history; its seqs are those of the ops."""
    store = jrnl.create(size=size, journal="1MiB", images=images)
    made = []
    for _, offset, data, _ in ops:
        before = store.seq
        if not data:
            store.flush()
        elif any(data):
            store.volume.write(offset, data)
        else:
            store.volume.discard(offset, len(data))
        if store.seq > before:
            made.append((store.seq, offset, data, 0 if data else FLUSH))
    return store, made


def told(ops, got, content, moment, mode):
    """Whether a state was given, or as of the next flush, which has seen it and promised more."""
    seq, *promise = moment
    if mode == "prefix":
        return content in {there for there, *_ in got}  # as the prefix that it is
    if (content, *promise) in got:
        return True
    later = next((op for op in ops if op[0] == seq + 1), None)
    if later is None or not later[3] & FLUSH or (later[2] and later[3] & FUA):
        return False
    return (content, seq + 1) in {(there, acked) for there, acked, _ in got} or told(
        ops, got, content, (seq + 1, seq + 1, promise[1]), mode
    )


def check_history(history, ops, size, mode, rng, **bounds):
    legal = legal_states(size, ops, mode, bounds.get("start", 0))
    states = crash.states(history, mode=mode, **bounds)
    got, prints = set(), {}
    for state in states:
        content = state.read(0, size)
        by_itself = max((k for k, *_, flags in ops if flags & FUA and k <= state.seq), default=0)
        assert (content, state.acked, by_itself) not in got
        got.add((content, state.acked, by_itself))
        assert (state.seq, state.acked, by_itself) in legal[content], state.id
        again = crash.state(history, state.id)
        assert (again.id, again.seq, again.acked) == (state.id, state.seq, state.acked)
        assert again.read(0, size) == content
        offset = rng.randrange(size)
        length = rng.randrange(size - offset + 1)
        assert state["data"].read(offset, length) == content[offset : offset + length]
        with open(state.path(), "rb") as file:
            assert file.read() == content
        for lost in state.lost:
            assert lost.entry <= state.seq
        if mode == "prefix":
            assert not state.lost
            assert content == history.view(state.seq).read(0, size)
        assert prints.setdefault(state.fingerprint(), content) == content
    assert len(prints) == len({content for content, *_ in got})
    for content, moments in legal.items():
        for moment in moments:
            assert told(ops, got, content, moment, mode)
    coverage = states.coverage
    assert coverage.exact
    assert coverage.looked == coverage.at_least == len(got)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(20))
def test_the_states_of_a_log_are_those_that_there_may_be(tmp_path, mode, seed):
    rng = random.Random(seed)
    size = 4096 * 2 + SECTOR * rng.randrange(4)
    ops = random_ops(rng, mode, size, aligned=True)
    with as_log(tmp_path / "log", ops, size) as log:
        check_history(log, ops, size, mode, rng)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(20))
def test_the_states_of_a_store_are_those_that_there_may_be(mode, seed):
    rng = random.Random(seed)
    size = 4096 * 2 + rng.randrange(600)
    ops = random_ops(rng, mode, size, mode == "torn", kinds=(0, 0, 0, DISCARD))
    store, made = as_store(ops, size, rng.choice(["before", "both"]))
    with store:
        check_history(store, made, size, mode, rng)


@pytest.mark.parametrize("mode", ["subset", "torn"])
@pytest.mark.parametrize("seed", range(10))
def test_the_first_moment_may_lie_in_the_middle(tmp_path, mode, seed):
    rng = random.Random(seed)
    size = 4096
    ops = random_ops(rng, mode, size, aligned=True)
    start = rng.randrange(len(ops) + 1)
    with as_log(tmp_path / "log", ops, size) as log:
        check_history(log, ops, size, mode, rng, start=start)


@pytest.mark.parametrize("mode", MODES)
def test_a_state_of_a_sample_is_one_that_there_may_be(tmp_path, mode):
    """More than can be counted: 40 writes without a flush, some twice to the same place."""
    rng = random.Random(1)
    size = 64 * SECTOR
    ops = [
        (seq, rng.randrange(32) * SECTOR, bytes([seq]) * SECTOR * rng.choice([1, 2]), 0)
        for seq in range(1, 41)
    ]
    with as_log(tmp_path / "log", ops, size) as log:
        states = crash.states(log, mode=mode)
        seen = set()
        singles = {"missing": set(), "alone": set()}
        for state in states:
            content = state.read(0, size)
            assert content not in seen
            seen.add(content)
            lost = {(each.entry, each.offset, each.length) for each in state.lost}
            expected = bytearray(size)
            for seq, offset, data, _ in ops[: state.seq]:
                for first in range(0, len(data), SECTOR):
                    place = offset + first
                    if not any(e == seq and o <= place < o + n for e, o, n in lost):
                        expected[place : place + SECTOR] = data[first : first + SECTOR]
            assert content == expected, state.id
            if state.seq == 40 and mode == "subset":
                if len(lost) == 1:
                    singles["missing"].add(next(iter(lost))[0])
                if len(lost) == 39:
                    singles["alone"].update({*range(1, 41)} - {entry for entry, *_ in lost})
        assert states.coverage.exact == (mode == "prefix")
        assert states.coverage.at_least >= len(seen)


def test_what_was_there_before_a_flush_is_another_state_after_it():
    """A block is moved, durably it was thought: the write is lost, the zeroes are not."""
    with jrnl.create(size=8192, journal="64KiB") as store:
        store.volume.write(0, b"kept")
        store.flush()
        store.volume.write(4096, b"kept")
        store.volume.discard(0, 4096)
        states = crash.states(store, mode="subset")
        empty = [(state.id, state.acked) for state in states if not any(state.read(0, 8192))]
    assert empty == [("0", 0), ("4-s1", 2)]


def test_what_was_there_before_a_write_with_fua_is_another_state_after_it(tmp_path):
    ops = [(1, 0, b"k" * SECTOR, FUA), (2, 4096, b"k" * SECTOR, 0), (3, 0, bytes(SECTOR), DISCARD)]
    with as_log(tmp_path / "log", ops, 8192) as log:
        states = crash.states(log, mode="subset")
        empty = [state.id for state in states if not any(state.read(0, 8192))]
    assert empty == ["0", "3-s1"]


def test_of_flushes_in_a_row_the_last_one_has_promised_most(tmp_path):
    flush = (0, b"", FLUSH)
    ops = [flush, flush, (0, b"w" * SECTOR, 0), flush, flush]
    with as_log(tmp_path / "log", [(k, *op) for k, op in enumerate(ops, 1)], 4096) as log:
        states = [(state.id, state.acked) for state in crash.states(log, mode="subset")]
        assert crash.state(log, "4").acked == 4
    assert states == [("2", 2), ("5", 5)]


def test_of_prefixes_the_flush_before_one_that_writes_tells_what_was_promised(tmp_path):
    write = b"w" * SECTOR
    ops = [(0, write, 0), (0, b"", FLUSH), (SECTOR, write, FLUSH)]
    with as_log(tmp_path / "log", [(k, *op) for k, op in enumerate(ops, 1)], 4096) as log:
        states = [(state.id, state.acked) for state in crash.states(log)]
    assert states == [("0", 0), ("2", 2), ("3", 3)]


def test_a_walk_that_was_left_early_says_that_it_was():
    with jrnl.create(size=4096, journal="64KiB") as store:
        store.volume.write(0, b"written")
        states = crash.states(store, mode="subset")
        next(states)
        assert not states.coverage.exact
        assert states.coverage.legal == 2
        assert len(list(states)) == 1
        assert states.coverage.exact


def waves():
    """Five blocks, each written in an epoch of its own, and then again."""
    store = jrnl.create(size="64KiB", journal="1MiB")
    for k in range(10):
        store.volume.write(k % 5 * 4096, bytes([k + 1]) * 4096)
        store.flush()
    return store


def test_a_state_that_is_read_while_another_thread_walks_on_leaves_nothing_behind(monkeypatch):
    store = waves()
    walk = crash.states(store, mode="subset")
    state = next(walk)
    read = crash.source._StoreSource.readinto
    met = []

    def meanwhile(source, seq, volume, offset, buffer):
        read(source, seq, volume, offset, buffer)
        if not met:
            met.append(seq)
            while next(walk).seq < 9:
                pass

    monkeypatch.setattr(crash.source._StoreSource, "readinto", meanwhile)
    assert state.read(8192, 1) == b"\0"
    assert met
    for later in walk:
        assert later.read(8192, 1) == crash.state(store, later.id).read(8192, 1)


def test_a_view_that_a_state_reads_from_stays_open_while_others_are_opened(monkeypatch):
    store = waves()
    walk = crash.states(store, mode="subset")
    state = next(walk)
    read = jrnl.View.readinto
    met = []

    def meanwhile(view, *arguments):
        if not met:
            met.append(view)
            for later in walk:
                later.read(0, 16384)
        read(view, *arguments)

    monkeypatch.setattr(jrnl.View, "readinto", meanwhile)
    assert state.read(0, 16384) == bytes(16384)
    assert met


def test_a_volume_larger_than_memory_can_be_forked(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(logs.pack_log([logs.write(0, b"w" * SECTOR)], SECTOR))
    with logwrites.attach(path, size="2TiB") as log:
        fork = crash.state(log, "1").fork()
        fork.volume.write(1 << 40, b"far")
        assert fork.volume.read(1 << 40, 3) == b"far"
        assert fork.volume.read(0, 2) == b"ww"


@pytest.mark.parametrize("images", ["before", "both"])
def test_a_long_history_of_a_store_is_read_ahead_and_is_the_same_backward(images):
    rng = random.Random(1)
    size = 8192
    content, contents = bytearray(size), {}
    with jrnl.create(size=size, journal="4MiB", images=images) as store:
        for _ in range(700):
            offset, length = rng.randrange(size - 512), rng.randrange(1, 512)
            data = rng.randbytes(length) if rng.random() < 0.9 else bytes(length)
            if any(data):
                store.volume.write(offset, data)
            else:
                store.volume.discard(offset, length)
            content[offset : offset + length] = data
            contents[store.seq] = bytes(content)
            if rng.random() < 0.3:
                store.flush()
                contents[store.seq] = bytes(content)
        states = []
        for state in crash.states(store, start=1):
            states.append(state)
            assert state.read(0, size) == contents[state.seq]
        for state in reversed(states):
            assert state.read(0, size) == contents[state.seq]
    assert len(states) > 600
