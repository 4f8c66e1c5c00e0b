"""Each error: which calls raise it, what its message tells, and that nothing has changed then."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

import jrnl
from jrnl.errors import shown
from tests.model.fingerprint import fingerprint, unchanged

KIB = 1024
SECOND = 1_000_000_000
BORN = datetime(2024, 5, 6, tzinfo=UTC)

Call = Callable[[jrnl.Store], object]


class Clock:
    """Ticks one second with each look at it."""

    def __init__(self) -> None:
        self.now_ns = int(BORN.timestamp()) * SECOND

    def __call__(self) -> int:
        self.now_ns += SECOND
        return self.now_ns


def label(value: object) -> str:
    """A parameter in a test's name."""
    return value.__name__ if isinstance(value, type) else ascii(shown(value))[:40]


def make(**options: object) -> jrnl.Store:
    """A store of 64 KiB whose journal takes 31 small writes, with a mark and a snapshot."""
    options = {"size": 64 * KIB, "journal": 16 * KIB, "clock": Clock(), **options}
    store = jrnl.create(**options)
    volume = next(iter(store.volumes.values()))
    volume.write(0, b"one")
    store.mark("first")
    store.snapshot("taken")
    volume.write(1, b"two")
    return store


@pytest.fixture
def store():
    with make() as made:
        yield made


def fill(store: jrnl.Store) -> None:
    """Push all that stands in the journal out of it."""
    for k in range(64):
        store.volume.write(k * 100, b"later")


# What is raised for a point

TO_CALLS: dict[str, Callable[[jrnl.Store, object], object]] = {
    "plan": lambda store, to: store.plan(to),
    "recover": lambda store, to: store.recover(to),
    "view": lambda store, to: store.view(to),
    "rewind": lambda store, to: store.rewind(to),
    "digest": lambda store, to: store.digest(to),
    "again": lambda store, to: store.recover(store.seq).again(to),
    "recover from a snapshot": lambda store, to: store.recover(to, base="taken"),
}
NO_POINTS: list[tuple[object, type[Exception], str]] = [
    (True, jrnl.InvalidType, "bool"),
    (False, jrnl.InvalidType, "bool"),
    (1.0, jrnl.InvalidType, "float"),
    (np.float64(1), jrnl.InvalidType, "float64"),
    (None, jrnl.InvalidType, "NoneType"),
    (b"first", jrnl.InvalidType, "bytes"),
    ((1, 2), jrnl.InvalidType, "tuple"),
    (timedelta(1), jrnl.InvalidType, "timedelta"),
    (BORN.date(), jrnl.InvalidType, "date"),
    (
        BORN.replace(tzinfo=None),
        jrnl.InvalidArgument,
        r"2024-05-06T00:00:00 has no zone.*astimezone",
    ),
    (BORN - timedelta(days=1), jrnl.UnknownPoint, "did not exist at 2024-05-05T00:00:00"),
    (datetime.min.replace(tzinfo=UTC), jrnl.UnknownPoint, "did not exist"),
    (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), jrnl.UnknownPoint, "did not exist"),
    (-1, jrnl.UnknownPoint, "no state -1.*numbered from 0"),
    (-(2**63), jrnl.UnknownPoint, "-9223372036854775808"),
    (4, jrnl.UnknownPoint, "state 4 does not exist yet.*newest is 3"),
    (2**31, jrnl.UnknownPoint, "2147483648"),
    (2**63 - 1, jrnl.UnknownPoint, "9223372036854775807"),
    (2**63, jrnl.UnknownPoint, "9223372036854775808"),
    (2**64 - 1, jrnl.UnknownPoint, "18446744073709551615"),
    (2**64, jrnl.UnknownPoint, "18446744073709551616"),
    (10**5000, jrnl.UnknownPoint, r"2\*\*16609 or more"),
    (np.uint64(2**64 - 1), jrnl.UnknownPoint, "18446744073709551615"),
    ("second", jrnl.UnknownPoint, "'second'.*there is 'taken', 'first'"),
    ("", jrnl.UnknownPoint, "''"),
    ("3", jrnl.UnknownPoint, "'3'"),
    ("2024-05-06", jrnl.UnknownPoint, "'2024-05-06'"),
    ("\udc80", jrnl.UnknownPoint, "udc80"),
    (jrnl.Mark("x", 17, 0), jrnl.UnknownPoint, "state 17"),
]


@pytest.mark.parametrize(
    ("call", "point", "error", "message"),
    [
        (call, *case)
        for call in TO_CALLS
        for case in NO_POINTS
        if case[0] is not None or call not in ("digest", "again")  # where None means something
    ],
    ids=label,
)
def test_what_names_no_state_is_refused(store, call, point, error, message):
    with unchanged(store), pytest.raises(error, match=message):
        TO_CALLS[call](store, point)


@pytest.mark.parametrize("call", TO_CALLS)
def test_a_state_that_has_left_the_window_is_told_from_one_that_never_was(store, call):
    mark, first = store.marks["first"], BORN + timedelta(seconds=2)
    store.snapshots["taken"].delete()
    store.snapshot("taken")
    fill(store)
    oldest, newest = store.window
    assert oldest > 2
    for point in (0, 1, mark, first, oldest - 1):
        with unchanged(store), pytest.raises(jrnl.PointExpired, match=str(oldest)) as caught:
            TO_CALLS[call](store, point)
        if not isinstance(point, datetime) and call != "again":
            assert f"{oldest}..{newest}" in str(caught.value)
            assert "larger journal" in str(caught.value)
    with unchanged(store), pytest.raises(jrnl.UnknownPoint, match="'first'"):
        TO_CALLS[call](store, "first")


@pytest.mark.parametrize("call", TO_CALLS)
def test_a_state_that_a_rewind_dropped_is_expired(store, call):
    store.rewind(2)
    assert (store.seq, store.window) == (4, (0, 4))
    with unchanged(store), pytest.raises(jrnl.PointExpired, match=r"3 was dropped.*0\.\.4"):
        TO_CALLS[call](store, 3)


@pytest.mark.parametrize("call", TO_CALLS)
def test_a_deleted_snapshot_is_no_point_and_neither_is_another_stores(store, call):
    taken = store.snapshots["taken"]
    taken.delete()
    second = store.snapshot("taken")
    with make() as other:
        for point in (taken, other.snapshots["taken"]):
            with unchanged(store), pytest.raises(jrnl.UnknownPoint, match="'taken'"):
                TO_CALLS[call](store, point)
    if call != "recover from a snapshot":
        TO_CALLS[call](store, second)


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        ("nobody", jrnl.UnknownPoint, "'nobody'"),
        ("first", jrnl.InvalidArgument, "'first' is a mark; a base must be a snapshot"),
        (5, jrnl.InvalidType, "int"),
        ([], jrnl.InvalidType, "list"),
        (b"taken", jrnl.InvalidType, "bytes"),
    ],
)
def test_only_a_snapshot_of_the_store_is_a_base(store, base, error, message):
    for call in (store.plan, store.recover):
        with unchanged(store), pytest.raises(error, match=message):
            call(2, base=base)


def test_neither_a_deleted_snapshot_nor_another_stores_is_a_base(store):
    taken = store.snapshots["taken"]
    with make() as other:
        for call in (store.plan, store.recover):
            with unchanged(store), pytest.raises(jrnl.UnknownPoint, match="another store"):
                call(2, base=other.snapshots["taken"])
    taken.delete()
    store.snapshot("taken")
    for call in (store.plan, store.recover):
        with unchanged(store), pytest.raises(jrnl.UnknownPoint, match="deleted"):
            call(2, base=taken)


def test_a_base_that_no_entries_lead_away_from_any_more_is_expired():
    with make(images="after") as store:
        fill(store)
        for call in (store.plan, store.recover, store.view, store.digest):
            with unchanged(store), pytest.raises(jrnl.PointExpired, match="after"):
                call(store.seq - 1)
        store.snapshot("late")
        with unchanged(store), pytest.raises(jrnl.PointExpired, match="no entries lead to state"):
            store.recover(store.seq, base="taken")


def test_a_time_after_the_newest_entry_means_the_present_state(store):
    for time in (datetime.now(UTC), datetime.max.replace(tzinfo=UTC), BORN + timedelta(days=1)):
        assert store.recover(time).seq == store.seq == 3
    far = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=23)))
    assert store.view(far).seq == 3


# Names

BAD_NAMES: list[tuple[object, type[Exception], str]] = [
    ("", jrnl.InvalidArgument, "1 to 255 bytes, not 0"),
    ("x" * 256, jrnl.InvalidArgument, "1 to 255 bytes, not 256"),
    ("é" * 128, jrnl.InvalidArgument, "1 to 255 bytes, not 256"),
    ("a/b", jrnl.InvalidArgument, "'a/b' has the character '/'"),
    ("a@b", jrnl.InvalidArgument, "'@'"),
    ("a\nb", jrnl.InvalidArgument, r"\\n"),
    ("a\0b", jrnl.InvalidArgument, r"\\x00"),
    ("\x7f", jrnl.InvalidArgument, r"\\x7f"),
    ("\x85", jrnl.InvalidArgument, r"\\x85"),
    ("\udc80", jrnl.InvalidArgument, "not valid Unicode"),
    *[
        (name, jrnl.InvalidArgument, "a number or a time")
        for name in ("17", "0x10", "1e5", "1_000", "-3", "+3", " 3", "3.5", "017", "0b1", "٣")
    ],
    *[
        (name, jrnl.InvalidArgument, "a number or a time")
        for name in (
            "2024-05-06",
            "20240506",
            "2024-05-06T01:02:03Z",
            "2024-05-06 01:02",
            "2024-W19-1",
        )
    ],
    (5, jrnl.InvalidType, "int"),
    (b"bytes", jrnl.InvalidType, "bytes"),
    (("a",), jrnl.InvalidType, "tuple"),
]
NAME_CALLS: dict[str, Callable[[jrnl.Store, object], object]] = {
    "mark": lambda store, name: store.mark(name),
    "snapshot": lambda store, name: store.snapshot(name),
    "savepoint": lambda store, name: store.savepoint(name).__enter__(),
}


@pytest.mark.parametrize("call", NAME_CALLS)
@pytest.mark.parametrize(("name", "error", "message"), BAD_NAMES, ids=label)
def test_a_name_that_could_be_misread_is_refused(store, call, name, error, message):
    with unchanged(store), pytest.raises(error, match=message):
        NAME_CALLS[call](store, name)
    if isinstance(name, str):
        with pytest.raises(error, match=message):
            jrnl.create(volumes={name: 1})


@pytest.mark.parametrize("call", NAME_CALLS)
def test_a_name_is_given_once_whether_to_a_mark_or_a_snapshot(store, call):
    with unchanged(store):
        with pytest.raises(jrnl.NameTaken, match="'first' is the name of a mark; use another"):
            NAME_CALLS[call](store, "first")
        with pytest.raises(jrnl.NameTaken, match="'taken' is the name of a snapshot; delete it or"):
            NAME_CALLS[call](store, "taken")
    with store.savepoint("inside"), pytest.raises(jrnl.NameTaken, match="'inside'"):
        NAME_CALLS[call](store, "inside")


@pytest.mark.parametrize(
    "name", ["a b", "x" * 255, "é", "v1.2", "12:30", "inf", "nan", "-", "Ⅷ", "."]
)
def test_other_names_are_fine(store, name):
    assert store.mark(name).name == name
    assert store.recover(name).seq == store.seq


def test_the_name_of_a_mark_whose_state_is_gone_is_free_again(store):
    fill(store)
    assert store.mark("first").seq == store.seq
    store.snapshots["taken"].delete()
    assert store.mark("taken").seq == store.seq


def test_no_snapshot_needs_none_as_a_name(store):
    with unchanged(store), pytest.raises(jrnl.InvalidType, match="NoneType"):
        store.snapshot(None)


# Sizes and options

BAD_SIZES: list[tuple[object, type[Exception], str]] = [
    *[
        (text, jrnl.InvalidArgument, "is not a size.*64MiB")
        for text in ("", " ", "-1", "1.5GiB", "1GB")
    ],
    *[
        (text, jrnl.InvalidArgument, "is not a size")
        for text in ("1e3", "0x10", "1_000", "1 G", "MiB")
    ],
    *[
        (text, jrnl.InvalidArgument, "is not a size")
        for text in ("1gib", "+1", "\u0661", "1\0", "1 MiB x")
    ],
    *[
        (size, jrnl.InvalidArgument, "not between 1 byte")
        for size in (0, "0", "0GiB", -1, 2**63, 2**64)
    ],
    *[(size, jrnl.InvalidArgument, "not between 1 byte") for size in ("8388608TiB", "9" * 5000)],
    (10**5000, jrnl.InvalidArgument, r"2\*\*16609 or more"),
    (-(10**5000), jrnl.InvalidArgument, r"-2\*\*16609 or less"),
    *[(size, jrnl.InvalidType, type(size).__name__) for size in (True, 1.0, b"1", [1], 1j, int)],
]


@pytest.mark.parametrize(("size", "error", "message"), BAD_SIZES, ids=label)
def test_a_size_is_a_whole_number_of_bytes_above_none(size, error, message):
    with pytest.raises(error, match=f"^size.*{message}"):
        jrnl.create(size=size)
    with pytest.raises(error, match=f"^journal.*{message}"):
        jrnl.create(size=1, journal=size)
    with pytest.raises(error, match=f"^journal.*{message}"):
        jrnl.wrap(bytearray(1), size)
    with pytest.raises(error, match=f"^size of 'a'.*{message}"):
        jrnl.create(volumes={"a": size})


@pytest.mark.parametrize(
    ("size", "length"),
    [
        ("512B", 512),
        ("1", 1),
        ("64KiB", 65536),
        (" 2 MiB ", 2 << 20),
        (np.int32(7), 7),
        ("0" * 50 + "5", 5),
    ],
)
def test_a_size_may_be_an_int_or_a_text_with_its_unit(size, length):
    with jrnl.create(size=size) as store:
        assert store.volume.size == length


def test_the_smallest_journal_is_16_kib():
    for size in (1, 16383, "15KiB", "16383B"):
        with pytest.raises(jrnl.InvalidArgument, match=f"at least 16KiB, not {size!r}"):
            jrnl.create(size=1, journal=size)
    with jrnl.create(size=1, journal="16KiB") as store:
        assert store.journal.capacity == 16384


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, "8388607TiB"])
def test_a_volume_that_no_address_space_holds_is_a_memory_error(size):
    with pytest.raises(MemoryError, match="address space"):
        jrnl.create(size=size)
    with pytest.raises(MemoryError, match="journal"):
        jrnl.create(size=1, journal=size)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, jrnl.InvalidArgument, "pass size, volumes or source"),
        ({"volumes": {}}, jrnl.InvalidArgument, "at least one volume"),
        ({"size": 1, "volumes": {"a": 1}}, jrnl.InvalidArgument, "pass one"),
        ({"size": 1, "volumes": {}}, jrnl.InvalidArgument, "pass one"),
        ({"volumes": ["a"]}, jrnl.InvalidType, "list"),
        ({"volumes": "1GiB"}, jrnl.InvalidType, "str"),
        ({"volumes": {1: 1}}, jrnl.InvalidType, "int"),
        ({"volumes": {f"v{k}": 1 for k in range(65536)}}, jrnl.InvalidArgument, "65535.*65536"),
        ({"size": 1, "images": "all"}, jrnl.InvalidArgument, "'before', 'after' or 'both'.*'all'"),
        ({"size": 1, "images": ""}, jrnl.InvalidArgument, "''"),
        ({"size": 1, "images": ["both"]}, jrnl.InvalidArgument, "both"),
        ({"size": 1, "images": 3}, jrnl.InvalidArgument, "3"),
        ({"size": 1, "overflow": "wrap"}, jrnl.InvalidArgument, "'fold' or 'refuse', not 'wrap'"),
        ({"size": 1, "overflow": None}, jrnl.InvalidArgument, "None"),
        ({"size": 1, "clock": 5}, jrnl.InvalidType, "clock must be callable, not int"),
        ({"size": 1, "journal": None}, jrnl.InvalidType, "journal.*NoneType"),
    ],
    ids=label,
)
def test_options_that_are_wrong_or_contradict_each_other_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        jrnl.create(**options)


# Room


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_full_journal_that_may_not_evict_refuses_and_changes_nothing(images):
    with make(images=images, overflow="refuse") as store:
        with pytest.raises(jrnl.JournalFull):
            fill(store)
        assert store.window.oldest == (2 if images == "after" else 0)
        snapshots = len(store.snapshots)
        with unchanged(store):
            for call in (
                lambda: store.volume.write(0, b"x"),
                lambda: store.volume.write_many([0, 1], b"xy"),
                lambda: store.volume.discard(0, 1),
                lambda: store.volume.write_zeroes(0, 1),
                lambda: store.volume.edit(0, 1).__enter__(),
                lambda: store.volume.as_file().write(b"x"),
                lambda: store.mark("more"),
                store.flush,
                lambda: store.recover(2).restore(),
                lambda: store.plan(2).oldest_after_restore,
            ):
                with pytest.raises(jrnl.JournalFull, match=r"16384 bytes, 32 entries.*'evict'"):
                    call()
        assert len(store.snapshots) == snapshots
        if images != "after":
            assert store.rewind(2).entries == 30  # which makes room
            store.volume.write(0, b"x")


def test_a_discard_that_fits_in_part_is_refused_whole():
    with jrnl.create(size=64 * KIB, journal=16 * KIB, overflow="refuse") as store:
        for k in range(0, 64 * KIB, 7168):
            store.volume.write(k, b"x")
        with unchanged(store):
            for call in (store.volume.discard, store.volume.write_zeroes):
                with pytest.raises(jrnl.JournalFull):
                    call(0, 64 * KIB)


def edit_elsewhere(store: jrnl.Store) -> None:
    with store.volume.edit(20_000, 3400):
        pass


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.volume.write(10_000, bytes(3500)),
        lambda store: store.volume.write_many([10_000, 20_000, 30_000], bytes(3300)),
        edit_elsewhere,
    ],
    ids=["write", "write_many", "edit"],
)
def test_what_does_not_fit_beside_an_open_edit_is_refused_before_anything_leaves(images, call):
    with make(images=images) as store:
        with store.volume.edit(40_000, 3000) as lent:
            lent[:] = 5
            for _ in range(40):
                held = store.window, store.journal.used
                try:
                    call(store)
                except jrnl.JournalFull:
                    assert (store.window, store.journal.used) == held
                    break
            else:
                pytest.fail("the journal never became full")
        assert store.volume.read(40_000, 3000) == bytes([5]) * 3000
        assert store.verify().ok


# Pins


def test_a_rewind_past_what_a_view_or_a_recovery_needs_is_refused(store):
    for hold in (store.view, store.recover):
        held = hold(3)
        with unchanged(store), pytest.raises(jrnl.PinnedPoint, match="close it first"):
            store.rewind(2)
        held.close()
    assert store.rewind(2).entries == 1


# Volumes


def test_a_volume_that_is_not_there_is_named_with_those_that_are():
    with make(size=None, volumes={"root": 5 * KIB, "log": KIB}) as store:
        view, recovery, snapshot = store.view(0), store.recover(0), store.snapshots["taken"]
        with unchanged(store):
            for volume in ("data", "", None, 5, "0"):
                for call in (
                    lambda name: store[name],
                    lambda name: view.read(0, 1, name),
                    lambda name: view.readinto(0, bytearray(1), volume=name),
                    view.as_file,
                    lambda name: recovery.read(0, 1, name),
                    lambda name: recovery.readinto(0, bytearray(1), name),
                    recovery.as_array,
                    recovery.path,
                    lambda name: snapshot.read(0, 1, name),
                ):
                    with pytest.raises(jrnl.UnknownVolume, match="'root', 'log'") as caught:
                        call(volume)
                    assert isinstance(caught.value, KeyError)
                    assert volume is None or repr(volume) in str(caught.value)
            with pytest.raises(jrnl.UnknownVolume, match="several volumes"):
                store.volume  # noqa: B018
        assert view.read(0, 3, "root") == bytes(3)
        assert recovery.as_array(store["log"]).size == KIB


# After-images alone


def test_going_back_in_place_needs_before_images():
    with make(images="after") as store, unchanged(store):
        for call in (lambda: store.rewind(2), store.savepoint, lambda: store.savepoint("name")):
            with pytest.raises(jrnl.InvalidArgument, match="images='before' or 'both'"):
                call()
        with pytest.raises(jrnl.InvalidArgument, match=r"no before-images.*images='after'.*'both'"):
            store.journal.before(1)
    with make() as store:
        refused = pytest.raises(
            jrnl.InvalidArgument, match=r"no after-images.*images='before'.*'both'"
        )
        with unchanged(store), refused:
            store.journal.after(1)


def test_images_are_asked_for_by_the_seq_of_a_retained_entry(store):
    for call in (store.journal.before, store.journal.after):
        with unchanged(store):
            for seq in (0, -1, 4, 2**63, 2**64, 10**5000):
                with pytest.raises(jrnl.UnknownPoint):
                    call(seq)
            for seq in (True, 1.0, None, "first", BORN):
                with pytest.raises(jrnl.InvalidType):
                    call(seq)
    fill(store)
    with unchanged(store), pytest.raises(jrnl.PointExpired, match="entry 1 "):
        store.journal.before(1)


# An edit is open

SETTLED: dict[str, Call] = {
    "snapshot": lambda store: store.snapshot("new"),
    "mark": lambda store: store.mark("new"),
    "bookmark": lambda store: store.mark(),
    "flush": lambda store: store.flush(),
    "plan": lambda store: store.plan(1),
    "recover": lambda store: store.recover(1),
    "view": lambda store: store.view(1),
    "rewind": lambda store: store.rewind(1),
    "savepoint": lambda store: store.savepoint().__enter__(),
    "diff": lambda store: store.diff(0, 1),
    "digest": lambda store: store.digest(),
    "old digest": lambda store: store.digest(1),
    "diff of states": lambda store: store.diff(store.recoveries[1]),
    "path": lambda store: store.path(),
    "bisect": lambda store: store.bisect(bool),
    "verify": lambda store: store.verify(),
    "close": lambda store: store.close(),
    "before": lambda store: store.journal.before(1),
    "file flush": lambda store: store.volume.as_file().flush(),
    "delete": lambda store: store.snapshots["taken"].delete(),
    "restore": lambda store: store.recoveries[1].restore(),
    "again": lambda store: store.recoveries[1].again(),
    "oldest after restore": lambda store: store.recoveries[1].plan.oldest_after_restore,
    "write there": lambda store: store.volume.write(100, b"x"),
    "write many there": lambda store: store.volume.write_many([0, 109], b"xy"),
    "discard there": lambda store: store.volume.discard(0, 65536),
    "zero there": lambda store: store.volume.write_zeroes(105, 1),
    "edit there": lambda store: store.volume.edit(0, 101).__enter__(),
}


@pytest.mark.parametrize("call", SETTLED)
def test_what_needs_a_settled_state_waits_for_the_end_of_an_edit(store, call):
    recovery = store.recover(2)
    with store.volume.edit(100, 10) as lent:
        with pytest.raises(jrnl.EditOpen, match="leave the edit's with block first"):
            SETTLED[call](store)
        lent[:] = 7
    assert store.volume.read(100, 10) == bytes([7]) * 10
    assert (store.seq, store.window, len(store.snapshots)) == (4, (0, 4), 1)
    assert recovery.read(100, 10) == bytes(10)
    assert store.verify().ok


# Closed

CLOSED: dict[str, Call] = {
    "write": lambda store: store.volume.write(0, b"x"),
    "write nothing": lambda store: store.volume.write(0, b""),
    "write a lot": lambda store: store.volume.write(0, bytes(65536)),
    "write_many": lambda store: store.volume.write_many([0], b"x"),
    "write_many of nothing": lambda store: store.volume.write_many([], b""),
    "read": lambda store: store.volume.read(0, 1),
    "read nothing": lambda store: store.volume.read(0, 0),
    "read a lot": lambda store: store.volume.read(0, 65536),
    "readinto": lambda store: store.volume.readinto(0, bytearray(1)),
    "discard": lambda store: store.volume.discard(0, 1),
    "write_zeroes": lambda store: store.volume.write_zeroes(0, 1),
    "edit": lambda store: store.volume.edit(0, 1).__enter__(),
    "edit nothing": lambda store: store.volume.edit(0, 0).__enter__(),
    "as_array": lambda store: store.volume.as_array(),
    "file read": lambda store: store.volume.as_file().read(1),
    "file write": lambda store: store.volume.as_file().write(b"x"),
    "file flush": lambda store: store.volume.as_file().flush(),
    "with": lambda store: store.__enter__(),
    "seq": lambda store: store.seq,
    "window": lambda store: store.window,
    "window_time": lambda store: store.window_time,
    "marks": lambda store: store.marks,
    "pins": lambda store: store.pins,
    "snapshots": lambda store: store.snapshots,
    "recoveries": lambda store: store.recoveries,
    "flush": lambda store: store.flush(),
    "mark": lambda store: store.mark("new"),
    "bookmark": lambda store: store.mark(),
    "pinned mark": lambda store: store.mark("new", pinned=True),
    "pin": lambda store: store.pin(1),
    "unpin": lambda store: store.unpin("new"),
    "retain": lambda store: store.retain(),
    "snapshot": lambda store: store.snapshot("new"),
    "plan": lambda store: store.plan(1),
    "recover": lambda store: store.recover(1),
    "archive": lambda store: store.archive("memory://closed"),
    "archive_flush": lambda store: store.archive_flush(),
    "archiving": lambda store: store.archiving,
    "fork": lambda store: store.fork(),
    "parent": lambda store: store.parent,
    "delete_recovery": lambda store: store.delete_recovery(1),
    "view": lambda store: store.view(1),
    "rewind": lambda store: store.rewind(1),
    "savepoint": lambda store: store.savepoint().__enter__(),
    "diff": lambda store: store.diff(0, 1),
    "diff of states": lambda store: store.diff(store.view(0)),
    "path": lambda store: store.path(),
    "path of a volume": lambda store: store.volume.path(),
    "views": lambda store: store.views,
    "states": lambda store: store.states(),
    "bisect": lambda store: store.bisect(bool),
    "used_up_to": lambda store: store.journal.used_up_to([1]),
    "used_up_to of nothing": lambda store: store.journal.used_up_to([]),
    "heat": lambda store: store.heat(),
    "data_extents": lambda store: store.volume.data_extents(),
    "history": lambda store: store.history(0, 1),
    "stats": lambda store: store.stats(),
    "metrics": lambda store: store.metrics(),
    "digest": lambda store: store.digest(),
    "old digest": lambda store: store.digest(1),
    "verify": lambda store: store.verify(),
    "used": lambda store: store.journal.used,
    "entries": lambda store: store.journal.entries,
    "between": lambda store: store.journal.between(1, 2),
    "before": lambda store: store.journal.before(1),
    "after": lambda store: store.journal.after(1),
}


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_closed_store_knows_its_names_and_sizes_and_refuses_all_else(images):
    store = make(images=images)
    store.close()
    for name, call in CLOSED.items():
        with pytest.raises(jrnl.StoreClosed, match="closed") as caught:
            call(store)
        assert caught.type is jrnl.StoreClosed, name
    store.close()
    assert repr(store) == "<jrnl.Store, closed>"
    assert list(store) == list(store.volumes) == ["data"]
    assert store.problems == []  # what an opening has found may be asked for later
    assert (store["data"].size, store.volume.name) == (64 * KIB, "data")
    assert store.journal.capacity == 16 * KIB
    assert [repr(store.volume), repr(store.journal)]


def test_every_public_method_is_among_those_tried_on_a_closed_store():
    tried = " ".join(CLOSED)
    named = {"close", "volume", "volumes", "journal", "capacity", "size", "name", "index", "engine"}
    named |= {"problems", "options"}
    for kind in (jrnl.Store, jrnl.Volume, jrnl.Journal):
        for name, _ in inspect.getmembers(kind):
            if not name.startswith("_") and name not in named | {"as_file"}:
                assert name in tried, f"{kind.__name__}.{name}"


def test_what_was_taken_from_a_closed_store_is_closed_too():
    store = make()
    view, recovery, snapshot, plan = (
        store.view(1),
        store.recover(1),
        store.snapshots["taken"],
        store.plan(1),
    )
    store.close()
    for call in (
        lambda: view.read(0, 1),
        lambda: view.read(0, 0),
        lambda: view.readinto(0, bytearray(1)),
        lambda: view.as_file().read(1),
        view.__enter__,
        recovery.__enter__,
        lambda: recovery.read(0, 1),
        lambda: recovery.readinto(0, bytearray(1)),
        recovery.as_array,
        recovery.path,
        recovery.restore,
        recovery.again,
        lambda: recovery.again(2),
        lambda: recovery.plan.oldest_after_restore,
        lambda: snapshot.read(0, 1),
        snapshot.verify,
        snapshot.wait,
        snapshot.delete,
        lambda: plan.oldest_after_restore,
    ):
        with pytest.raises(jrnl.StoreClosed, match="closed"):
            call()
    view.close()
    recovery.close()
    assert (view.seq, recovery.seq, snapshot.seq, plan.bytes) == (1, 1, 2, 0)
    assert [repr(view), repr(recovery), repr(snapshot), repr(plan)]


def test_a_closed_view_or_recovery_says_that_it_is_the_one_that_is_closed(store):
    view, recovery = store.view(1), store.recover(1)
    view.close()
    recovery.close()
    with unchanged(store):
        for call in (lambda: view.read(0, 1), lambda: view.readinto(0, bytearray(1)), view.as_file,
                     view.__enter__):  # fmt: skip
            with pytest.raises(jrnl.StoreClosed, match="the view is closed"):
                call()
        for call in (lambda: recovery.read(0, 1), recovery.as_array, recovery.path, recovery.again):
            with pytest.raises(jrnl.StoreClosed, match="the recovery is closed"):
                call()
        for call in (recovery.restore, recovery.__enter__):
            with pytest.raises(jrnl.StoreClosed, match="the recovery is closed"):
                call()


def test_a_deleted_snapshot_says_so(store):
    taken = store.snapshots["taken"]
    taken.delete()
    with unchanged(store):
        for call in (lambda: taken.read(0, 1), taken.verify, taken.delete):
            with pytest.raises(jrnl.UnknownPoint, match="'taken' was deleted"):
                call()


def test_closing_inside_ones_own_edit_is_refused_and_closes_nothing(store):
    recovery = store.recover(1)
    with store.volume.edit(0, 5), pytest.raises(jrnl.EditOpen):
        store.close()
    assert recovery.read(0, 3) == b"one"
    store.volume.write(0, b"x")


# The hierarchy


def test_every_error_is_a_jrnl_error_and_the_builtin_that_it_is_like():
    likes = {
        "OutOfBounds": ValueError,
        "EntryTooLarge": ValueError,
        "NameTaken": ValueError,
        "UnknownPoint": LookupError,
        "PointExpired": LookupError,
        "UnknownVolume": KeyError,
        "FormatError": ValueError,
        "StoreClosed": ValueError,
        "InvalidArgument": ValueError,
        "InvalidType": TypeError,
    }
    names = [name for name in jrnl.__all__ if inspect.isclass(getattr(jrnl, name))]
    errors = [name for name in names if issubclass(getattr(jrnl, name), Exception)]
    assert set(likes) < set(errors)
    for name in errors:
        assert issubclass(getattr(jrnl, name), jrnl.JrnlError)
        assert issubclass(getattr(jrnl, name), likes.get(name, Exception))
        assert getattr(jrnl, name).__doc__


def test_the_fingerprint_of_these_tests_sees_each_kind_of_change(store):
    seen = [fingerprint(store)]
    for change in (
        lambda: store.volume.write(0, b"one"),
        lambda: store.volume.write_many([0], b"x"),
        store.flush,
        lambda: store.mark("m"),
        lambda: store.snapshot("s"),
        lambda: store.snapshots["s"].delete() is None,
        lambda: store.rewind(3),
    ):
        change()
        seen.append(fingerprint(store))
        assert seen[-1] != seen[-2]
