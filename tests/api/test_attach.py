"""A log as a history in place: every state of it, back and forth, against a plain replay."""

from __future__ import annotations

import ctypes
import hashlib
import json
import operator
import os
import random
import signal
import tracemalloc
import warnings
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from time import sleep

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jrnl
from jrnl import logwrites
from tests.model.logs import (
    DISCARD,
    ENTRY_FIELDS,
    FUA,
    MARK,
    SUPER_FIELDS,
    Entry,
    discard,
    draw_entries,
    entry_positions,
    flush,
    mark,
    pack_log,
    pattern,
    plain_states,
    set_field,
    write,
)
from tests.model.places import DATA
from tests.model.traces import TRACES

MIB = 1 << 20
TIB = 1 << 40


def sector(seed: int) -> bytes:
    return pattern(512, seed)


FOUR = [write(0, sector(1)), write(2, sector(2) * 2), discard(0, 1), write(3, sector(3))]


@pytest.fixture
def save(tmp_path):
    """A function that puts bytes into a file and gives its path."""

    def save_bytes(content: bytes, name: str = "a.log") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return save_bytes


def attached(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", logwrites.LogWarning)
        return logwrites.attach(path, **options)


def states_over(entries, size, sector_size=512, source=b""):
    """The states of a log over a source, and which entry wrote each byte of them last."""
    begin = source[:size].ljust(size, b"\0")
    states, writers = [begin], [np.zeros(size, np.int64)]
    for number, entry in enumerate(entries, 1):
        state, wrote = bytearray(states[-1]), writers[-1].copy()
        start, length = entry.sector * sector_size, entry.sectors * sector_size
        if length:
            data = bytes(length) if entry.flags & DISCARD else entry.data
            state[start : start + length] = data
            wrote[start : start + length] = number
        states.append(bytes(state))
        writers.append(wrote)
    return states, writers


def differing(one: bytes, other: bytes) -> set[int]:
    return {*np.flatnonzero(np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8))}


def covered(extents) -> set[int]:
    return {
        byte for _, offset, length in extents.tolist() for byte in range(offset, offset + length)
    }


# --- every state ---


@st.composite
def logs(draw):
    """Give a sector size, a number of sectors, entries that fit, and what state 0 holds."""
    sector_size = draw(st.sampled_from([512, 4096]))
    sectors = draw(st.integers(1, 10))
    entries = draw_entries(draw, sector_size, sectors, 14)
    source = pattern(draw(st.integers(0, (sectors + 2) * sector_size)), 99)
    return sector_size, sectors, entries, source


@settings(deadline=None, max_examples=150)
@given(logs(), st.integers(0, 600), st.randoms(use_true_random=False))
def test_every_state_of_a_random_log_is_that_of_a_plain_replay(tmp_path_factory, log, more, chance):
    sector_size, sectors, entries, source = log
    size = sectors * sector_size + more
    path = tmp_path_factory.getbasetemp() / "attached.log"
    path.write_bytes(pack_log(entries, sector_size))
    states, writers = states_over(entries, size, sector_size, source)
    with logwrites.attach(path, size=size, source=source) as history:
        assert (history.seq, history.size) == (len(entries), size)
        order = list(range(len(states)))
        chance.shuffle(order)
        image = history.recover(order[0])
        for k in order:
            check_state(history, k, states[k], writers[k], chance)
            image.seek(k)
            assert image.as_array().tobytes() == states[k]
            assert Path(image.path()).read_bytes() == states[k]
        image.close()
        check_differences(history, states, chance)


def check_state(history, k, state, writers, chance):
    size = len(state)
    with history.view(k) as view:
        assert view.read(0, size) == state
        start = chance.randrange(size + 1)
        stop = chance.randint(start, size)
        assert view.read(start, stop - start) == state[start:stop]
        assert view.volume.read(start, stop - start) == state[start:stop]
    buffer = bytearray(stop - start)
    history._readinto(k, start, buffer)
    assert buffer == state[start:stop]
    check_pieces(history, k, start, stop, state, writers)


def check_pieces(history, k, start, stop, state, writers):
    """Which entry wrote last is right, in pieces as long as they can be, and so is its content."""
    pieces = history.latest(k, start, stop - start)
    assert {column.dtype for column in pieces} == {np.dtype(np.int64)}
    offsets, lengths, numbers = pieces
    assert np.repeat(numbers, lengths).tolist() == writers[start:stop].tolist()
    assert offsets.tolist() == (start + np.cumsum(lengths) - lengths).tolist()
    assert (np.diff(numbers) != 0).all()
    for offset, length, number in zip(*(column.tolist() for column in pieces), strict=True):
        content = bytearray(b"?" * length)
        history.content(number, offset, content)
        assert content == state[offset : offset + length]


def check_differences(history, states, chance):
    a, b = chance.randrange(len(states)), chance.randrange(len(states))
    differ = differing(states[a], states[b])
    assert differ <= covered(history.diff(a, b))
    exact = history.diff(a, b, "data", exact=True)
    assert differ <= covered(exact) & covered(history.diff(b, a))
    for _, offset, length in exact.tolist():
        assert {offset, offset + length - 1} <= differ
    assert history.digest(a) == history.view(a).digest()
    assert (history.digest(a) == history.digest(b)) == (states[a] == states[b])


@pytest.mark.parametrize("trace", TRACES)
def test_a_recorded_history_is_right_at_every_recorded_point_back_and_forth(trace):
    facts = json.loads((DATA / f"{trace}.json").read_text())
    wanted = {int(k): digest for k, digest in facts["sha256_after_entries"].items()}
    with logwrites.attach(DATA / f"{trace}.log.xz", size=facts["volume_size"]) as history:
        assert history.seq == facts["entries"]
        image = history.recover(history.seq)
        for k in sorted(wanted, reverse=True):
            image.seek(k)
            assert hashlib.sha256(image.as_array()).hexdigest() == wanted[k]
        image.path()
        for k in sorted(wanted):
            image.seek(k)
            content = np.fromfile(image.path(), np.uint8)
            assert hashlib.sha256(content).hexdigest() == wanted[k]
            with history.view(k) as view:
                assert view.read(0, view.volume.size) == content.tobytes()


@pytest.mark.parametrize("trace", TRACES)
def test_an_attached_log_and_a_store_it_was_replayed_onto_say_the_same(trace):
    path = DATA / f"{trace}.log.xz"
    with (
        jrnl.create(size="64MiB", journal="512MiB") as store,
        logwrites.attach(path, size="64MiB") as history,
    ):
        seqs = logwrites.replay(path, store.volume)
        assert {name: int(seqs[k]) for name, k in history.marks.items()} == {
            name: marked.seq for name, marked in store.marks.items()
        }
        for k in (0, 1, history.seq // 3, history.seq - 1, history.seq):
            assert history.digest(k) == store.digest(int(seqs[k]))
        assert history.digest() == store.digest()
        a, b = history.seq // 4, history.seq // 2
        theirs = store.diff(int(seqs[a]), int(seqs[b]), exact=True)
        assert history.diff(a, b, exact=True).tolist() == theirs.tolist()


# --- what is asked for ---


def test_a_volume_is_as_large_as_log_and_source_ask_for_or_as_it_is_told(save):
    path = save(pack_log(FOUR))
    for options, size in [
        ({}, 2048),
        ({"source": b"x" * 5000}, 5000),
        ({"source": b"x" * 50}, 2048),
        ({"size": "1MiB"}, MIB),
        ({"size": 2048, "source": b"x" * 5000}, 2048),
    ]:
        with logwrites.attach(path, **options) as history:
            assert history.size == history.view(0).volume.size == size
    with pytest.raises(jrnl.FormatError, match="at least 2048 bytes"):
        logwrites.attach(path, size=2047)
    for size in ("2 pounds", 0, -1, 1 << 63):
        with pytest.raises(jrnl.InvalidArgument):
            logwrites.attach(path, size=size)


def test_a_log_that_touches_nothing_has_states_too(save):
    path = save(pack_log([flush(), mark("m")]))
    with pytest.raises(jrnl.InvalidArgument, match="give size="):
        logwrites.attach(path)
    with logwrites.attach(path, size=700) as history:
        assert history.view("m").read(0, 700) == bytes(700)
        assert history.diff(0, 2).size == history.diff(0, 2, exact=True).size == 0
    with logwrites.attach(save(pack_log([])), source=b"ab") as history:
        assert (history.seq, history.view(0).read(0, 2)) == (0, b"ab")
        assert history.states().tolist() == [0]


def test_bounds_of_states_may_lie_where_there_are_none(save):
    with logwrites.attach(save(pack_log([flush(), mark("m")])), size=700) as history:
        for bounds, seqs in [
            ((-(1 << 70), 1 << 70), [0, 1, 2]), ((1 << 64,), []), ((3,), []), ((None, -1), []),
            ((2, 1), []), (("m", 1 << 64), [2]),
        ]:  # fmt: skip
            found = history.states(*bounds)
            assert (found.tolist(), found.dtype) == (seqs, np.int64)


def test_state_0_is_what_a_file_or_a_buffer_holds_and_zeroes_after_it(save, tmp_path):
    path = save(pack_log([write(1, sector(5))]))
    content = pattern(700, 3)
    for source in (content, bytearray(content), np.frombuffer(content, np.uint8),
                   save(content, "s.img"), str(save(content, "s.img"))):  # fmt: skip
        with logwrites.attach(path, size=2000, source=source) as history:
            assert history.view(0).read(0, 2000) == content + bytes(1300)
            assert history.view(1).read(0, 2000) == content[:512] + sector(5) + bytes(976)
            assert history.diff(0, 1, exact=True)["offset"].tolist() == [512]
    with logwrites.attach(path, size=2000, source=save(b"", "s.img")) as history:
        assert history.view(0).read(0, 2000) == bytes(2000)
    with pytest.raises(jrnl.InvalidType, match="a path or a buffer"):
        logwrites.attach(path, source=7)
    with pytest.raises(FileNotFoundError):
        logwrites.attach(path, source=tmp_path / "none")
    for source in (tmp_path, "/dev/null"):
        with pytest.raises(jrnl.InvalidArgument, match="neither a file nor"):
            logwrites.attach(path, source=source)


def test_marks_are_points_and_have_the_names_that_a_replay_gives(save):
    texts = ["mkfs", "a/b", "", "7", "mkfs", "x" * 300, "mkfs-2"]
    path = save(pack_log([entry for text in texts for entry in (write(0, sector(1)), mark(text))]))
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        logwrites.replay(path, store.volume)
        names = list(store.marks)
    with logwrites.attach(path) as history:
        assert list(history.marks) == names
        assert list(history.marks.values()) == [2 * k + 2 for k in range(len(texts))]
        assert history.view("mkfs-2").seq == 10
        with pytest.raises(TypeError):
            history.marks["more"] = 1


def test_ten_thousand_equal_marks_take_ten_thousand_tries(save):
    with logwrites.attach(save(pack_log([mark("same")] * 10_000)), size=512) as history:
        assert history.marks["same-10000"] == 10_000


@pytest.mark.parametrize(
    ("point", "error"),
    [
        (5, jrnl.UnknownPoint), (-1, jrnl.UnknownPoint), (1 << 400, jrnl.UnknownPoint),
        ("none", jrnl.UnknownPoint), (True, jrnl.InvalidType), (1.0, jrnl.InvalidType),
        (None, jrnl.InvalidType),
    ],
)  # fmt: skip
def test_what_is_no_point_is_refused(save, point, error):
    with logwrites.attach(save(pack_log(FOUR))) as history:
        image = history.recover(2)
        for call in (
            history.view, history.recover, image.seek, lambda at: history.diff(0, at),
            lambda at: history.digest(*[at] * (at is not None) or [True]),
        ):  # fmt: skip
            with pytest.raises(error):
                call(point)
        assert image.seq == 2


def test_seqs_of_any_integer_type_are_points(save):
    with logwrites.attach(save(pack_log(FOUR))) as history:
        for kind in (np.int64, np.uint32, np.uint64):
            assert history.view(kind(2)).read(1024, 512) == sector(2)
            assert history.latest(kind(2), kind(1024), kind(512))[2].tolist() == [2]


def test_states_are_the_seqs_and_bisect_finds_the_first_bad_one(save):
    entries = [write(k % 4, sector(k)) for k in range(50)] + [mark("end")]
    with logwrites.attach(save(pack_log(entries))) as history:
        assert history.window == (0, 51)
        assert history.states().tolist() == list(range(52))
        assert history.states(48, "end").tolist() == [48, 49, 50, 51]
        assert history.states().dtype == np.int64
        for bad in range(52):
            asked = []

            def check(view, bad=bad, asked=asked):
                asked.append(view.seq)
                return view.seq < bad

            assert history.bisect(check) == bad
            assert len(asked) <= 8
        assert history.states(-5, 1 << 70).size == 52
        assert history.states(9, 8).size == history.states(60).size == 0
        with pytest.raises(jrnl.InvalidArgument, match="holds at state 51"):
            history.bisect(lambda view: True)
        with pytest.raises(jrnl.InvalidArgument, match="no states"):
            history.bisect(lambda view: True, start=60)
        assert history.bisect(lambda view: view.seq < 5, start=7) == 7
        with pytest.raises(jrnl.InvalidArgument, match="holds at state 20"):
            history.bisect(lambda view: view.seq < 30, stop=20)
        with pytest.raises(jrnl.InvalidType):
            history.bisect("true")


def test_history_says_who_wrote_in_a_range(save):
    entries = [*FOUR, discard(0, 0), mark("m"), write(1, sector(9), flags=FUA)]
    with logwrites.attach(save(pack_log(entries))) as history:
        rows = history.history(1536, 100)
        assert rows["seq"].tolist() == [2, 4]
        assert rows["offset"].tolist() == [1024, 1536]
        assert history.history(0, 2048)["seq"].tolist() == [1, 2, 3, 4, 7]
        assert history.history(512, 512)["flags"].tolist() == [FUA]
        assert history.history(512, 0).size == history.history(2048, 0).size == 0
        with pytest.raises(jrnl.OutOfBounds):
            history.history(2000, 100)
        assert history.entries["flags"].tolist()[-2:] == [MARK, FUA]
        with pytest.raises(ValueError, match="read-only"):
            history.entries["offset"][0] = 1


def test_content_is_only_what_an_entry_wrote(save):
    with logwrites.attach(save(pack_log(FOUR)), source=b"s" * 600) as history:
        buffer = bytearray(512)
        history.content(2, 1536, buffer)
        assert buffer == sector(2)
        history.content(3, 0, buffer)
        assert buffer == bytes(512)
        history.content(0, 512, buffer)
        assert buffer == b"s" * 88 + bytes(424)
        for entry, offset in ((2, 1024 - 1), (2, 1537), (1, 512), (4, 2048)):
            with pytest.raises(jrnl.OutOfBounds):
                history.content(entry, offset, buffer)
        with pytest.raises(jrnl.UnknownPoint):
            history.content(5, 0, buffer)


def test_ranges_and_buffers_that_cannot_be_are_refused(save):
    with logwrites.attach(save(pack_log(FOUR))) as history:
        for state in (history.view(4), history.view(4, writable=True), history.recover(4)):
            for offset, length in ((0, 2049), (2049, 0), (-1, 1), (1, 1 << 70), (2048, 1)):
                with pytest.raises(jrnl.OutOfBounds):
                    state.read(offset, length)
            assert state.read(2048, 0) == b""
            with pytest.raises(jrnl.InvalidType):
                state.read(0.0, 1)
            with pytest.raises((jrnl.InvalidType, jrnl.InvalidArgument)):
                state.readinto(0, b"fixed")
            with pytest.raises(jrnl.UnknownVolume):
                state.read(0, 1, "other")
        with pytest.raises(jrnl.UnknownVolume):
            history.diff(0, 1, "other")
        with pytest.raises(jrnl.InvalidType):
            history.view(0, writable=1)


# --- views that are written to, images that move ---


@settings(deadline=None, max_examples=60)
@given(logs(), st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.floats(0, 1)), max_size=9))
def test_what_is_written_to_a_view_is_its_own(tmp_path_factory, log, steps):
    sector_size, sectors, entries, source = log
    size = sectors * sector_size
    path = tmp_path_factory.getbasetemp() / "written.log"
    path.write_bytes(pack_log(entries, sector_size))
    states, _ = states_over(entries, size, sector_size, source)
    with logwrites.attach(path, size=size, source=source) as history:
        view = history.view(history.seq, writable=True)
        model = bytearray(states[-1])
        for kind, low, high in steps:
            start, stop = sorted((int(low * size), int(high * size)))
            data = bytes(stop - start) if kind == 0 else pattern(stop - start, kind + 7)
            if kind == 0:
                view.volume.discard(start, stop - start)
            else:
                view.volume.write(start, data)
            model[start:stop] = data
            assert view.read(start // 2, size - start // 2) == model[start // 2 :]
        assert view.read(0, size) == model
        with open(view.path(), "rb") as file:
            assert file.read() == model
        differ = differing(states[-1], bytes(model))
        with history.view(history.seq) as before:
            assert before.read(0, size) == states[-1]
            # An exact extent may bridge a few bytes that are equal, which nobody has written.
            assert differ <= covered(view.diff(before)) & covered(view.diff(before, exact=False))
            assert view.diff().tolist() == view.diff(before).tolist()
            assert before.diff().size == 0
        assert hashlib.sha256(view.as_file().read()).digest() == hashlib.sha256(model).digest()
        view.close()


def test_a_view_for_reading_takes_no_writes(save):
    with logwrites.attach(save(pack_log(FOUR))) as history:
        for state in (history.view(1), history.recover(1)):
            with pytest.raises(jrnl.ReadOnlyStore):
                state.volume.write(0, b"x")
            assert not state.as_file().writable()


def test_many_small_writes_and_huge_discards_of_a_view_take_what_they_hold(save):
    with logwrites.attach(save(pack_log(FOUR)), size=8 * TIB) as history:
        view = history.view(4, writable=True)
        view.write(5 * TIB - 100, pattern(200))
        view.discard(0, 5 * TIB)
        assert view.own_bytes == 100
        assert view.read(5 * TIB - 100, 200) == bytes(100) + pattern(200)[100:]
        view.write_many = view.volume.write_many
        view.write_many([0, 4096, 0], np.arange(3 * 64, dtype=np.uint8).reshape(3, 64))
        assert view.read(0, 64) == bytes(range(128, 192))
        view.write(0, bytes(MIB))
        view.write(MIB // 2, b"middle")
        assert view.own_bytes == 100 + MIB
        assert view.read(MIB // 2 - 1, 8) == b"\0middle\0"


def test_the_file_of_an_image_follows_it_and_others_can_only_read_it(save):
    entries = [write(0, sector(1) * 8), discard(2, 4), write(100, sector(2)), discard(0, 200)]
    with logwrites.attach(save(pack_log(entries)), size=200 * 512) as history:
        image = history.recover(4)
        path = image.path()
        with pytest.raises(PermissionError):
            os.pwrite(os.open(path, os.O_RDWR), b"x", 0)
        states = plain_states(entries, 200 * 512)
        for k in (1, 3, 0, 2, 4, 1):
            image.seek(k)
            assert image.path() == path
            assert Path(path).read_bytes() == states[k]
        image.close()
        with pytest.raises(jrnl.StoreClosed):
            image.read(0, 1)


def test_a_closed_history_and_its_states_can_be_read_no_more(save):
    history = logwrites.attach(save(pack_log(FOUR)), source=save(b"s" * 9, "s.img"))
    view, written = history.view(1), history.view(1, writable=True)
    image = history.recover(1)
    history.close()
    history.close()
    for call in (
        lambda: view.read(0, 1), lambda: image.read(0, 1), lambda: image.seek(0),
        lambda: written.write(0, b"x"), lambda: history.view(0), lambda: history.latest(0, 0, 1),
        lambda: history.content(1, 0, bytearray(1)), history.digest,
        lambda: history.diff(0, 1), lambda: history.history(0, 1), history.__enter__,
        lambda: history.bisect(lambda _: True),
    ):  # fmt: skip
        with pytest.raises(jrnl.StoreClosed):
            call()
    view.close()
    assert history.entries.size == history.seq == 4
    assert "closed" in repr(history)


def test_a_history_that_is_dropped_gives_up_its_files(save):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        history = logwrites.attach(save(pack_log(FOUR)), source=save(b"s", "s.img"))
        view = history.view(3)
        assert view.read(0, 1) == b"\0"
    del history, view
    assert len(os.listdir("/proc/self/fd")) == before


# --- what is not believed ---


def test_what_read_log_refuses_and_warns_of_attach_does(save):
    for damage in (b"", b"no log", pack_log(FOUR)[:700], bytes(4096)):
        with pytest.raises(jrnl.FormatError):
            logwrites.attach(save(damage))
    with pytest.warns(logwrites.LogWarning, match="stale") as said:
        logwrites.attach(save(pack_log(FOUR, count=1))).close()
    assert said[0].filename == __file__


@settings(deadline=None, max_examples=200)
@given(
    logs(),
    st.lists(st.tuples(st.integers(0, 13), st.integers(0, 40), st.integers(1, 255)), max_size=3),
    st.one_of(st.none(), st.integers(0, 10_000)),
)
def test_a_damaged_log_is_refused_or_attached_as_it_would_be_replayed(
    tmp_path_factory, log, flips, cut_bytes
):
    sector_size, sectors, entries, _ = log
    size = sectors * sector_size
    positions = [0, *entry_positions(entries, sector_size)]
    content = bytearray(pack_log(entries, sector_size))
    for header, byte, flip in flips:
        at = positions[header % len(positions)] + byte
        if at < len(content):
            content[at] ^= flip
    if cut_bytes is not None:
        del content[max(0, len(content) - cut_bytes) :]
    path = tmp_path_factory.getbasetemp() / "damaged.log"
    path.write_bytes(content)
    with warnings.catch_warnings(), jrnl.create(size=size, journal="4MiB") as store:
        warnings.simplefilter("ignore", logwrites.LogWarning)
        try:
            seqs = logwrites.replay(path, store.volume)
        except jrnl.FormatError as error:
            with pytest.raises(jrnl.FormatError, match="^" + str(error)[:9].replace("\\", ".")):
                logwrites.attach(path, size=size)
            return
        with logwrites.attach(path, size=size) as history:
            assert history.seq == len(seqs) - 1
            assert [history.digest(k) for k in history.states()] == [
                store.digest(int(seq)) for seq in seqs
            ]


@pytest.mark.parametrize("field", [*ENTRY_FIELDS, "count"])
@pytest.mark.parametrize("value", [(1 << 64) - 1, 1 << 53, 1 << 40, 1 << 31])
def test_no_field_of_a_log_makes_a_large_allocation(save, field, value):
    entries = [*FOUR, mark("m")]
    log = pack_log(entries)
    if field == "count":
        log = set_field(log, 0, SUPER_FIELDS[field], value)
    else:
        for position in entry_positions(entries)[:-1]:
            log = set_field(log, position, ENTRY_FIELDS[field], value)
    path = save(log)
    os.truncate(path, 1 << 41)  # a hole: the data that a length asks for can be there
    tracemalloc.start()
    try:
        with attached(path) as history:
            history.view(history.seq).read(0, 4096)
            history.diff(0, history.seq)
            history.latest(history.seq, 0, history.size)
    except jrnl.FormatError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 * MIB


def test_files_that_are_cut_once_they_are_attached_give_an_error(save):
    entries = [write(0, sector(1) * 16), write(4, sector(2)), discard(8, 2)]
    path, source = save(pack_log(entries)), save(b"s" * 20_000, "s.img")
    with logwrites.attach(path, source=source) as history:
        image = history.recover(3)
        image.path()
        image.seek(2)
        os.truncate(path, 1024)
        os.truncate(source, 100)
        for k in (1, 2, 3):
            with pytest.raises(jrnl.FormatError, match=r"a\.log: the file now ends"):
                history.view(k).read(0, 8192)
            assert history.view(k).read(8192, 0) == b""
        assert history.view(3).read(8 * 512, 1024) == bytes(1024)
        with pytest.raises(jrnl.FormatError, match=r"s\.img: the file now ends"):
            history.view(3).read(8192, 100)
        for call in (
            history.digest, lambda: history.diff(0, 1, exact=True),
            lambda: history.content(2, 2048, bytearray(512)), lambda: image.seek(0),
            image.as_array, lambda: history.recover(1).path(),
            lambda: history.view(2, writable=True).as_file().read(),
        ):  # fmt: skip
            with pytest.raises(jrnl.FormatError, match="now ends"):
                call()
        assert image.seq == 2
        assert history.diff(0, 1).tolist() == [(0, 0, 8192)]


# --- cost ---


def sparse_log(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a log over 8 TiB: discards, some of terabytes, and some writes whose data is a hole.

    Gives where each entry's range starts and stops, in bytes.
    """
    chance = np.random.default_rng(1)
    kinds = chance.choice(3, count, p=[0.1, 0.89, 0.01])  # a write, a discard, a large one
    sectors = chance.integers(0, 4 * TIB // 512, count)
    counts = np.choose(kinds, [8, chance.integers(1, 2048, count), 4 * TIB // 512 - sectors // 2])
    kinds[0], sectors[0], counts[0] = 2, 0, 8 * TIB // 512
    ends = 512 + np.cumsum(np.where(kinds == 0, 512 + 4096, 512))
    with open(path, "wb") as file:
        file.write(pack_log([], 512, count))
        for kind, start, length, end in zip(kinds, sectors, counts, ends, strict=True):
            file.write(Entry(int(start), int(length), DISCARD if kind else 0).pack(512))
            file.seek(end)
        file.truncate(ends[-1])
    return sectors * 512, (sectors + counts) * 512


def test_a_huge_log_with_huge_discards_costs_its_headers(tmp_path):
    count = 1_000_000 if os.environ.get("JRNL_TEST_PROFILE") == "long" else 100_000
    path = tmp_path / "huge.log"
    starts, stops = sparse_log(path, count)
    tracemalloc.start()
    with logwrites.attach(path) as history:
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        path.unlink()
        assert kept < count * 100 + 2 * MIB
        assert peak < count * 250 + 4 * MIB
        assert history.size == 8 * TIB
        chance = random.Random(2)
        for _ in range(300):
            k, byte = chance.randint(0, count), int(starts[chance.randrange(count)])
            [number] = history.latest(k, byte, 1)[2].tolist()
            covering = np.flatnonzero((starts[:k] <= byte) & (byte < stops[:k]))
            assert number == (covering[-1] + 1 if covering.size else 0)
        offsets, lengths, _ = history.latest(count, 0, history.size)
        assert lengths.sum() == 8 * TIB
        assert len(offsets) <= 2 * count + 1
        assert history.diff(0, count)["length"].sum() < count * 4096
        with closing(history.recover(count)) as image:
            Path(image.path()).stat()
            image.seek(count // 2)
            image.seek(1)
            assert image.read(int(starts[1]), 4096) == bytes(4096)


class Stop(BaseException):
    pass


def test_a_long_read_ends_where_a_signals_handler_raises(save):
    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    trip = partial(ctypes.pythonapi.PyErr_SetInterruptEx, int(signal.SIGUSR1))
    try:
        with logwrites.attach(save(pack_log(FOUR)), size="40MiB") as history:
            buffer, done = bytearray(b"?" * (40 * MIB)), []
            read = partial(history._recorded.readinto, 4, 0, buffer)  # no step of Python in it
            with pytest.raises(Stop):
                done.extend(map(operator.call, [trip, read]))
            assert len(done) == 1
            assert buffer[:2048] == plain_states(FOUR, 2048)[4]
            assert buffer[-MIB:] == b"?" * MIB
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_threads_read_side_by_side_until_it_is_closed(save):
    entries = [write(k % 8, sector(k)) for k in range(64)]
    states = plain_states(entries, 4096)
    history = logwrites.attach(save(pack_log(entries)), size=4 * MIB)
    wrong, closed = [], []

    def look(seed: int) -> None:
        chance = random.Random(seed)
        with suppress(jrnl.StoreClosed):
            while True:
                k = chance.randrange(65)
                if history.view(k).read(0, MIB)[:4096] != states[k]:
                    wrong.append(k)
        closed.append(seed)

    threads = [Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    sleep(0.2)
    history.close()
    for thread in threads:
        thread.join()
    assert (wrong, sorted(closed)) == ([], [0, 1, 2, 3])
