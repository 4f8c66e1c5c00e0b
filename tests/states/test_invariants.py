"""The invariants of the design, by their numbers: what must be true of every store, always."""

from __future__ import annotations

import os
import random
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jrnl
from jrnl import CorruptionError, JournalFull, Kind, UnknownPoint
from tests.model.amount import more_in_long
from tests.model.twin import Twin

SIZE = 9000
IMAGES = ["before", "after", "both"]
WITH_BEFORE = ["before", "both"]

RANGES = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.integers(1, 5000), st.integers(1, 255)),
    min_size=1,
    max_size=12,
)


def clip(offset: int, length: int, longest: int = 3584) -> int:
    """The length of a range that lies inside of a volume of SIZE, and fits one entry."""
    return min(length, SIZE - offset, longest)


def filled(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def busy(twin: Twin, writes: int = 20, seed: int = 1) -> None:
    """Write here and there."""
    dice = random.Random(seed)
    for _ in range(writes):
        volume = dice.randrange(len(twin.sizes))
        length = dice.randrange(1, min(600, twin.sizes[volume]) + 1)
        offset = dice.randrange(twin.sizes[volume] - length + 1)
        twin.write(volume, offset, dice.randbytes(length))


# I1: identity. State t at a byte is the before-image of the first later entry that covers it.


@pytest.mark.parametrize("images", WITH_BEFORE)
@given(ranges=RANGES)
def test_i1_each_byte_is_the_first_later_before_image_that_covers_it(images, ranges):
    store = jrnl.create(size=SIZE, journal="1MiB", images=images)
    for offset, length, value in ranges:
        store.volume.write(offset, bytes([value]) * clip(offset, length))
    entries = store.journal.entries
    for state in range(store.seq + 1):
        wanted = store.volume.as_array().copy()
        for entry in reversed(entries[state:]):
            end = entry["offset"] + entry["length"]
            wanted[entry["offset"] : end] = np.frombuffer(store.journal.before(entry["seq"]), "u1")
        with store.recover(state) as recovery:
            assert recovery.as_array().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("images", IMAGES)
@given(ranges=RANGES, at=st.integers(0, 12))
def test_i1_to_i3_overlapping_byte_ranges_are_exact_from_every_base(images, ranges, at):
    twin = Twin([SIZE], 1 << 20, images)
    twin.snapshot("start")
    for k, (offset, length, value) in enumerate(ranges):
        if k == at:
            twin.snapshot("middle")
        twin.write(0, offset, bytes([value]) * clip(offset, length))
    twin.check()


# I2: the bridge. From a snapshot forward, by before-images and production.


def test_i2_the_bridge_leads_to_every_state_after_a_snapshot():
    twin = Twin([12345, 700], 1 << 20, "before")
    busy(twin)
    twin.snapshot("base")
    busy(twin, seed=2)
    for seq in range(20, 41):
        opened = twin.recover(seq, "base")
        assert opened.recovery.plan.route == ("bridge" if seq > 20 else "backward")


@given(
    ranges=RANGES,
    taken=st.integers(0, 12),
    damaged=st.integers(0, 12),
    byte=st.integers(0, SIZE - 1),
)
def test_i2_a_before_image_that_disagrees_with_the_snapshot_is_an_error(
    ranges, taken, damaged, byte
):
    """One byte of production changes around the engine, some time after the snapshot."""
    taken = min(taken, len(ranges))
    damaged = min(max(taken, damaged), len(ranges))
    memory = bytearray(filled(1, SIZE))
    store = jrnl.wrap(memory, "1MiB")
    covers = []
    for k, (offset, length, value) in enumerate([*ranges, (0, 0, 0)]):
        if k == taken:
            store.snapshot("base").wait()
        if k == damaged:
            memory[byte] ^= 0xFF
        fits = clip(offset, length)
        if fits:
            store.volume.write(offset, bytes([value]) * fits)
            covers.append(offset <= byte < offset + fits)
    for state in range(taken + 1, store.seq + 1):
        first_later = next((k for k in range(state, len(covers)) if covers[k]), -1)
        if not any(covers[taken:state]) and first_later >= damaged:
            with pytest.raises(CorruptionError):
                store.recover(state, "base")
        else:
            store.recover(state, "base").close()


def test_i2_the_error_says_which_entry_and_which_byte_and_nothing_changes():
    memory = bytearray(4096)
    store = jrnl.wrap(memory, "1MiB")
    store.snapshot("base").wait()
    store.volume.write(0, b"written since")
    memory[2000] = 1
    store.volume.write(1990, bytes(20))
    before = store.seq, store.window, bytes(memory), dict(store.recoveries)
    with pytest.raises(CorruptionError, match=r"entry 2 .* byte 2000"):
        store.recover(1, "base")
    assert (store.seq, store.window, bytes(memory), dict(store.recoveries)) == before
    report = store.verify()
    assert not report.ok
    assert "'base'" in report.problems[0]


# I3: forward, by after-images; production is not needed.


@pytest.mark.parametrize("images", ["after", "both"])
def test_i3_after_images_lead_forward_whatever_became_of_production(images):
    dice = random.Random(3)
    memory = bytearray(dice.randbytes(SIZE))
    store = jrnl.wrap(memory, "1MiB", images=images)
    states = [bytes(memory)]
    store.snapshot("base").wait()
    for _ in range(30):
        offset = dice.randrange(SIZE)
        store.volume.write(offset, dice.randbytes(clip(offset, dice.randrange(1, 800))))
        states.append(bytes(memory))
    memory[:] = dice.randbytes(SIZE)
    for seq, state in enumerate(states):
        with store.recover(seq, "base") as recovery:
            assert recovery.plan.route == ("forward" if seq else "backward")
            assert recovery.as_array().tobytes() == state


# I6: honesty. Damage, expiry and a full journal each have their own error, and change nothing.


SECRET = filled(6, 64)


def damage_image(store: jrnl.Store) -> None:
    """Flip a bit in the first byte of the image area; or back."""
    store._engine._damage_image(0, 1)


def damage_header(store: jrnl.Store) -> None:
    """Flip a bit in the seq of the oldest entry."""
    store._engine._damage_header(0, 0, 1)


def damage_snapshot(snapshot: jrnl.Snapshot) -> None:
    """Flip a bit in the first byte; or back."""
    snapshot.wait()
    snapshot._image._damage(0, 0, 1)


def store_with_secret(**options: object) -> jrnl.Store:
    """State 0 starts with the secret, which is then only in the journal: its first image."""
    store = jrnl.wrap(bytearray(SECRET.ljust(8192, b"\0")), "16KiB", **options)
    store.volume.write(0, bytes(64))
    store.volume.write(5000, b"more")
    return store


@pytest.mark.parametrize("images", WITH_BEFORE)
def test_i6_a_damaged_before_image_is_an_error_and_nothing_changes(images):
    store = store_with_secret(images=images)
    present = store.volume.read(0, 8192)
    damage_image(store)
    for ask in (store.recover, store.digest, store.rewind):
        with pytest.raises(CorruptionError, match="entry 1 "):
            ask(0)
    with pytest.raises(CorruptionError, match="entry 1 "):
        store.journal.before(1)
    with store.view(0) as view:
        with pytest.raises(CorruptionError):
            view.read(63, 1)
        assert view.read(64, 8128) == bytes(8128)
    with store.recover(1) as recovery:
        assert recovery.read(0, 8192) == bytes(8192)
    assert store.seq == 2
    assert store.volume.read(0, 8192) == present
    assert store.verify().problems == ["entry 1 does not match its checksum"]


def test_i6_a_damaged_after_image_is_an_error():
    store = jrnl.create(size=8192, journal="16KiB", images="after")
    store.snapshot("start")
    store.volume.write(0, SECRET)
    store.volume.write(0, bytes(64))
    damage_image(store)
    with pytest.raises(CorruptionError, match="entry 1 "):
        store.recover(1)
    with pytest.raises(CorruptionError, match="entry 1 "):
        store.journal.after(1)
    with store.recover(2, "start") as recovery:
        assert recovery.read(0, 8192) == bytes(8192)
    assert not store.verify().ok


def test_i6_a_damaged_header_is_an_error():
    store = store_with_secret()
    damage_header(store)
    for ask in (store.plan, store.recover, store.rewind, store.digest, store.journal.before):
        with pytest.raises(CorruptionError):
            ask(0 if ask != store.journal.before else 1)
    with pytest.raises(CorruptionError):
        store.journal.entries  # noqa: B018
    assert store.volume.read(5000, 4) == b"more"
    assert not store.verify().ok


def test_i6_a_damaged_snapshot_is_an_error():
    store = jrnl.wrap(bytearray(SECRET.ljust(8192, b"\0")), "16KiB")
    snapshot = store.snapshot("base")
    damage_snapshot(snapshot)
    with pytest.raises(CorruptionError, match="byte 0;"):
        snapshot.read(10, 1)
    assert snapshot.read(4096, 4096) == bytes(4096)
    store.volume.write(6000, b"more")
    with store.recover(1, "base") as recovery:
        with pytest.raises(CorruptionError):
            recovery.as_array()
        with pytest.raises(CorruptionError):
            recovery.restore(everything=True)
    store.volume.write(100, b"beside the damage")
    with store.recover(2, "base") as recovery, pytest.raises(CorruptionError):
        recovery.again(1).restore()
    assert not snapshot.verify().ok
    assert not store.verify().ok
    assert store.seq == 2
    with store.recover(0, "production") as recovery:  # what is damaged is not asked for anything
        recovery.restore()
    assert store.volume.read(0, 8192) == SECRET.ljust(8192, b"\0")


def test_i6_damage_that_a_recovery_kept_spoils_its_own_range_only():
    store = jrnl.wrap(bytearray(SECRET.ljust(8192, b"\0")), "16KiB")
    recovery = store.recover(0)
    store.volume.write(0, bytes(64))
    damage_image(store)
    for k in range(100):
        store.volume.write(4096 + k, bytes([k]))
    assert store.window.oldest > 1
    assert recovery.read(64, 8128) == bytes(8128)
    with pytest.raises(CorruptionError):
        recovery.read(0, 1)
    with pytest.raises(CorruptionError):
        recovery.restore()
    assert store.seq == 101


def test_i6_without_checksums_damage_cannot_be_seen():
    store = store_with_secret(checksum=False)
    damage_image(store)
    with store.recover(0) as recovery:
        assert recovery.read(0, 64) == bytes([SECRET[0] ^ 1]) + SECRET[1:]
    assert store.verify().ok


def test_i6_a_deleted_snapshot_is_not_the_one_that_has_its_name_now():
    store = jrnl.create(size=512, journal="16KiB")
    old = store.snapshot("a")
    old.delete()
    for _ in range(40):
        store.volume.write(0, b"new")
    new = store.snapshot("a")
    for ask in (store.view, store.recover, store.plan, store.digest, store.rewind):
        with pytest.raises(UnknownPoint):
            ask(old)
    with store.view(new) as view, store.recover(new) as recovery:
        assert view.read(0, 3) == recovery.read(0, 3) == b"new"


def test_i6_of_two_snapshots_of_one_state_each_can_be_the_base():
    twin = Twin([4097])
    busy(twin, 3)
    twin.snapshot("one")
    twin.snapshot("two")
    for step in (0, 40):
        busy(twin, step)
        for to in (3, "one", "two"):
            for base in ("one", "two"):
                assert twin.recover(to, base) is not None


@pytest.mark.parametrize("images", IMAGES)
def test_i6_a_journal_that_refuses_takes_what_fits_and_no_byte_more(images):
    twin = Twin([60000], 16384, images, overflow="refuse")
    piece = twin.model.write_max
    while twin.write(0, 0, filled(1, piece)):
        pass
    assert not twin.write_many(0, [0, 5000], bytes(2 * 1000))
    twin.zero(Kind.DISCARD, 0, 0, 60000)
    while twin.write(0, 0, b"1"):
        pass
    while twin.mark(f"m{twin.newest}"):
        twin.flush()
    assert twin.oldest == (0 if twin.rewinds else twin.newest)
    twin.check()
    if twin.rewinds:
        assert twin.rewind(1)
        assert twin.write(0, 0, b"1")


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("act", ["write", "write_many", "edit", "discard"])
def test_i6_what_an_open_edit_leaves_no_room_for_changes_nothing(images, act):
    twin = Twin([60000], 16384, images)
    busy(twin, 60)
    vol, longest = twin.volumes[0], twin.model.write_max
    calls = {
        "write": lambda: vol.write(20000, bytes(longest)),
        "write_many": lambda: vol.write_many([20000, 20000, 30000], bytes(longest // 3 * 3)),
        "edit": lambda: vol.edit(20000, longest).__enter__(),
        "discard": lambda: vol.discard(10000, 50000),
    }
    with vol.edit(0, 1000):
        vol.write(10000, filled(1, longest))
        for length in (longest, 3000, 1000, 64):
            before = twin._face()
            with pytest.raises(JournalFull):
                while True:
                    before = twin._face()
                    vol.write(10000, filled(1, length))
            assert twin._face() == before
        twin._changes_nothing(JournalFull, calls[act])
    assert twin.store.verify().ok


# I3 and I8, with after-images alone: the window reaches back to a snapshot.


def test_i3_with_after_images_alone_what_can_be_recovered_can_be_viewed_from_a_snapshot():
    twin = Twin([1], 16384, "after")
    assert twin.view(0) is None  # production moves on, and nothing keeps what it was
    twin.check_digest(0)
    twin.snapshot("base")
    for k in range(3):
        twin.write(0, 0, bytes([k + 1]))  # as many bytes as copying production would take
    for seq in range(4):
        assert twin.view(seq) is not None
        twin.check_digest(seq)
    assert twin.recover(0).recovery.plan.bytes == 0


def test_i8_with_after_images_alone_the_plan_names_the_oldest_snapshot_that_stays():
    twin = Twin([4097], 16384, "after")
    busy(twin, 3)
    opened = twin.recover(3)
    assert twin.store.plan(3).oldest_after_restore == 3  # nothing to write
    twin.write(0, 0, b"more")
    assert opened.recovery.plan.oldest_after_restore == 5  # no snapshot: the newest is all
    twin.snapshot("base")
    busy(twin, 3)
    opened = twin.recover("base")
    assert twin.store.plan("base").oldest_after_restore == 4
    twin.restore(opened)  # compares the plan with what comes of it
    assert twin.store.window.oldest == 4


# I7: what failed half-way can be run again, and what was recovered can be recovered again.


def test_i7_what_damage_stopped_runs_again_once_it_is_repaired():
    store = store_with_secret(images="both")
    wanted = SECRET.ljust(8192, b"\0")
    for _ in range(3):
        damage_image(store)
        for ask in (store.recover, store.rewind):
            with pytest.raises(CorruptionError):
                ask(0)
        assert (store.seq, dict(store.recoveries)) == (2, {})
        assert store.volume.read(0, 64) == bytes(64)
        damage_image(store)
        with store.recover(0) as recovery:
            assert recovery.read(0, 8192) == wanted
    store.rewind(0)
    assert store.volume.read(0, 8192) == wanted


def test_i7_a_restore_that_failed_changed_nothing_and_runs_again():
    store = jrnl.wrap(bytearray(SECRET.ljust(8192, b"\0")), "16KiB")
    snapshot = store.snapshot("base")
    store.volume.write(0, bytes(8000 - 4096))
    store.volume.write(4096, b"more")
    opened = store.recover(0, "base")
    damage_snapshot(snapshot)
    with pytest.raises(CorruptionError):
        opened.restore()
    assert store.seq == 2
    damage_snapshot(snapshot)
    assert opened.restore().last_seq == store.seq
    assert store.volume.read(0, 8192) == SECRET.ljust(8192, b"\0")


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("base", [None, "base"])
def test_i7_recovering_again_outlives_damage_the_snapshot_and_the_window(images, base):
    twin = Twin([70000, 511], 16384, images)
    busy(twin, 4)
    twin.snapshot("base")
    busy(twin, 8)
    opened = twin.recover(twin.newest if base is None else 10, base)
    for k in range(3):
        twin.restore(opened)
        twin.write(0, 2000 * k, filled(k, 3000))
        twin.zero(Kind.DISCARD, 0, 0, 70000)
        if k == 1 and base is not None:
            twin.delete("base")
        assert twin.oldest > opened.seq
        again = twin.again(opened)
        twin.close_recovery(opened)
        opened = again
    twin.check_open()


# I8: a restore is made of ordinary entries, and is undone like anything else.


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("journal", [16384, 1 << 20])
def test_i8_restoring_the_state_before_a_restore_undoes_it(images, journal):
    twin = Twin([70000, 511], journal, images)
    twin.snapshot("base")
    busy(twin, 12)
    present = twin.newest
    twin.snapshot("present")
    before = twin.model.now
    twin.restore(twin.recover(twin.kept_states()[0]))
    twin.check()
    opened = twin.recover(present) or twin.recover("present")
    twin.restore(opened)
    assert twin.model.now == before
    twin.check()


def test_i8_a_restore_that_changes_nothing_adds_nothing():
    twin = Twin([4097])
    busy(twin)
    opened = twin.recover(twin.newest)
    result = opened.recovery.restore()
    assert result == (twin.newest + 1, twin.newest, 0)
    assert opened.recovery.plan.oldest_after_restore == twin.oldest
    twin.check()


def test_i8_a_restore_writes_only_what_differs():
    twin = Twin([70000])
    twin.write(0, 1000, bytes(range(1, 256)))
    twin.write(0, 60000, b"abc")
    opened = twin.recover(0)
    twin.write(0, 1001, bytes(100))
    result = opened.recovery.restore()
    assert result.bytes == 1 + 154 + 3
    twin._follow_restore(result, twin.model.now, opened.state)
    twin.check()


# I9: several volumes, one seq.


@pytest.mark.parametrize("images", IMAGES)
def test_i9_a_snapshot_a_mark_a_recovery_and_a_rewind_cover_all_volumes_at_one_seq(images):
    twin = Twin([1, 511, 4096, 4097, 70000], 65536, images)
    twin.snapshot("start")
    busy(twin, 30)
    twin.mark("here")
    twin.snapshot("also here")
    busy(twin, 30, seed=2)
    for name in ("here", "also here"):
        opened = twin.recover(name)
        assert opened.seq == twin.model.snapshots["also here"] == 31
    twin.restore(opened)
    twin.check()
    if twin.rewinds:
        for opened in twin.recoveries[:]:
            twin.close_recovery(opened)
        twin.rewind("here")
    assert twin.model.now == twin.model.states[31]
    twin.check()


def test_i9_seqs_are_given_out_across_volumes_in_one_order():
    store = jrnl.create(volumes={"a": 100, "b": 100})
    a, b = store["a"], store["b"]
    assert [a.write(0, b"1"), b.write(0, b"2"), a.discard(0, 1), b.write(5, b"3")] == [1, 2, 3, 4]
    assert store.journal.entries["volume"].tolist() == [0, 1, 0, 1]
    assert list(store.volumes) == ["a", "b"]


# I10: rewind and savepoints.


def test_i10_a_savepoint_forgets_its_own_name_only():
    store = jrnl.create(size=512, journal="16KiB")
    store.volume.write(0, b"1")
    with store.savepoint("here"):
        store.rewind(0)  # below its start: the name is free again
        store.mark("here")
    assert list(store.marks) == ["here"]


def pages_used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def rounds_to_one_point(store: jrnl.Store, count: int) -> list[int]:
    """Write and rewind, always to the same point."""
    vol, point = store.volume, store.seq
    for k in range(count):
        vol.write(k % 4000, b"never to be seen again")
        store.rewind(point)
    return [point]


def rounds_each_from_where_it_is(store: jrnl.Store, count: int) -> list[int]:
    """Write and rewind to what was the newest state: the last REWIND entry."""
    vol, points = store.volume, [store.seq]
    for k in range(count):
        vol.write(k % 4000, b"never to be seen again")
        points.append(store.rewind(points[-1]).seq)
    return [*points[:1000], *points[::1000], *points[-1000:]]


def rounds_of_savepoints(store: jrnl.Store, count: int) -> list[int]:
    """Savepoints that fail, some of them one in another."""
    vol, points = store.volume, [store.seq]
    for k in range(count // 2):
        with suppress(KeyError), store.savepoint():
            vol.write(k % 4000, b"never to be seen again")
            with suppress(IndexError), store.savepoint():
                vol.write(k % 3000, b"nor this")
                raise IndexError
            raise KeyError
        if k < 10:
            points.append(store.seq)
    return [*points, store.seq]


@more_in_long("rounds", 20_000, 100_000)
@pytest.mark.parametrize("images", WITH_BEFORE)
@pytest.mark.parametrize("fill", ["empty", "full", "wrapped"])
@pytest.mark.parametrize(
    "play", [rounds_to_one_point, rounds_each_from_where_it_is, rounds_of_savepoints]
)
def test_i10_rounds_of_write_and_rewind_move_and_cost_nothing(images, fill, play, rounds):
    store = jrnl.create(size=4097, journal="16KiB", images=images)
    dice = random.Random(10)
    states = {0: bytes(4097)}
    for _ in range({"empty": 3, "full": 32, "wrapped": 333}[fill]):
        seq = store.volume.write(dice.randrange(4000), dice.randbytes(dice.randrange(1, 98)))
        states[seq] = store.volume.read(0, 4097)
    start = store.seq
    play(store, 10)  # a full ring makes room for one round, once
    oldest, used, pages = store.window.oldest, store.journal.used, pages_used()
    points = play(store, rounds)
    assert store.window.oldest == oldest
    assert store.journal.used == used
    # A sanitizer keeps up to 256 MiB of what was freed, to see whether it is used.
    allowed = 512 << 20 if "asan" in os.environ.get("LD_PRELOAD", "") else 4 << 20
    assert (pages_used() - pages) * 4096 < allowed
    for seq, state in states.items():
        if seq >= oldest:
            with store.recover(seq) as recovery:
                assert recovery.read(0, 4097) == state
    for point in points:
        with store.view(point) as view:
            assert view.read(0, 4097) == states[start]
    assert store.verify().ok


def test_i10_a_round_that_fits_never_moves_the_window():
    """Neither in the first round nor later, whatever is left free beside it."""
    for writes in range(1, 31):
        twin = Twin([4097], 16384)
        busy(twin, writes)
        twin.clock.now += 1
        for k in range(5):
            room = 31 - len(twin.store.journal.entries)
            if room > 0 and twin.store.journal.used < 12000:
                twin.write(0, k, b"in")
                oldest = twin.oldest
                assert twin.rewind(writes if k % 2 else twin.newest - 1)
                assert twin.oldest == oldest == 0
        twin.check()


def test_i10_an_outer_savepoint_waits_for_any_number_of_inner_ones():
    """Its start is a REWIND entry, which each inner one replaces: uneven rounds, past any table."""
    store = jrnl.create(size=512, journal="16KiB")
    store.volume.write(0, b"before")
    with suppress(KeyError), store.savepoint():
        store.volume.write(0, b"x")
        raise KeyError
    start = store.volume.read(0, 512)
    dice = random.Random(4)
    with suppress(KeyError), store.savepoint("outer") as outer:
        for _ in range(20_000):
            with suppress(IndexError), store.savepoint():
                for _ in range(dice.randrange(1, 9)):
                    store.volume.write(0, b"inner")
                raise IndexError
        store.volume.write(0, b"outer")
        raise KeyError
    assert store.volume.read(0, 512) == start
    assert outer.seq < store.seq
    assert store.window.oldest == 0


def test_i10_dropped_seqs_are_gone_and_replaced_ones_are_not():
    twin = Twin([4097])
    busy(twin, 3)
    twin.rewind(1)  # 4 stands for 1; 2 and 3 are gone
    twin.write(0, 0, b"5")
    twin.rewind(4)  # 6 replaces 4
    twin.write(0, 0, b"7")
    assert [twin.find(k) for k in twin.kept_states()] == [0, 1, 4, 6, 7]
    twin.check()
    twin.rewind(4)  # an alias leads to where its successor does
    assert twin.newest == 8
    assert twin.kept_states() == [0, 1, 4, 6, 8]
    twin.check()
    twin.rewind(1)
    assert twin.kept_states() == [0, 1, 9]
    twin.check()


def test_i10_a_rewind_forgets_the_replaced_seqs_behind_it_and_no_others():
    twin = Twin([4097], 65536)
    kept = []
    for k in range(8):
        twin.write(0, k, b"stays")
        twin.write(0, k, b"goes")
        twin.rewind(twin.newest - 1)
        replaced = twin.newest
        twin.write(0, k, b"goes too")
        twin.rewind(replaced)
        kept.append((replaced, twin.newest))
    while kept:
        for replaced, present in kept:
            assert twin.find(replaced) in twin.kept_states()
            assert twin.model.present(replaced) == twin.model.present(present)
        twin.check()
        twin.rewind(kept.pop()[0] - 2)
    twin.check()


def test_i10_a_view_and_a_recovery_from_production_pin_what_they_need():
    twin = Twin([4097])
    busy(twin, 6)
    twin.snapshot("base")
    busy(twin, 2)
    early, late = twin.view(3), twin.view(7)
    from_production, from_snapshot = twin.recover(8), twin.recover(4, "base")
    assert twin.rewind(7) is False
    twin.close_recovery(from_production)
    assert twin.rewind(6) is False
    assert twin.rewind(7)
    twin.close_view(late)
    assert twin.rewind(3)
    assert twin.rewind(2) is False
    twin.close_view(early)
    assert twin.rewind(2)
    twin.check_recovery(from_snapshot)
    twin.check()


@pytest.mark.parametrize("size", [511, 4097, 12345])
def test_i10_a_view_follows_production_through_rewinds(size):
    """Back to where it was opened, and to between what it has taken notice of since."""
    twin = Twin([size], 1 << 20)
    busy(twin, 5)
    opened = twin.view(4)
    for k in range(120):
        before = twin.newest
        busy(twin, 1 + k % 4, seed=k)
        twin.check_view(opened)
        twin.rewind([5, before, twin.newest, twin.newest - 1][k * k % 7 % 4])
        if k % 2:
            twin.check_view(opened)
    twin.check()


def test_i10_a_view_of_a_block_that_was_covered_whole_sees_what_comes_after_a_rewind():
    twin = Twin([4096])
    opened = twin.view(0)
    twin.write(0, 0, filled(1, 2000))
    twin.write(0, 2000, filled(2, 2096))
    twin.check_view(opened)
    twin.rewind(1)
    twin.write(0, 1000, filled(3, 3000))
    twin.check_view(opened)


def test_i1_states_of_a_volume_larger_than_any_memory_are_exact():
    size = 5 << 40
    store = jrnl.create(size=size, journal="1MiB", images="both")
    offsets = [0, 2**32 - 5, 2**32 + 7, 2**40 - 3, 2**42 - 1, size - 4097, size - 10]
    store.snapshot("start")
    for k, offset in enumerate(offsets):
        store.volume.write(offset, bytes([k + 1]) * 10)
    for seq in range(len(offsets) + 1):
        for base in (None, "start"):
            with store.recover(seq, base) as recovery, store.view(seq) as view:
                for k, offset in enumerate(offsets):
                    wanted = bytes([k + 1 if k < seq else 0]) * 10
                    assert recovery.read(offset, 10) == view.read(offset, 10) == wanted
    assert store.recover(3).restore().bytes == 40
    assert store.volume.read(size - 10, 10) == bytes(10)
    assert store.rewind(7).bytes == 40
    assert store.volume.read(size - 10, 10) == bytes([7]) * 10


# I11: a call from inside another one on the same thread. All pairs: tests/core/test_reentry.py.


@pytest.mark.parametrize("images", IMAGES)
def test_i11_a_write_from_inside_a_recovery_comes_before_it_or_after_it(images):
    twin = Twin([SIZE], 1 << 20, images)  # whatever is written here, the base stays within reach
    if images == "after":
        twin.snapshot("base")
    busy(twin)
    store, dice = twin.store, random.Random(1)

    def trace(frame, event, argument):
        frame.f_trace_opcodes = True
        if event == "opcode" and dice.random() < 0.0008:
            sys.settrace(None)
            twin.write(0, dice.randrange(SIZE - 100), dice.randbytes(100))
            sys.settrace(trace)
        return trace

    for _ in range(30):
        seq, state = store.seq, twin.model.states[store.seq]
        sys.settrace(trace)
        try:
            recovery = store.recover(seq)
        finally:
            sys.settrace(None)
        with recovery:
            assert recovery.read(0, SIZE) == state[0]
    twin.check()


def test_i11_a_write_from_inside_a_fold_leaves_the_outer_one_its_room():
    store = jrnl.create(size=SIZE, journal="64KiB", images="both", overflow="fold")
    store.snapshot("base").wait()
    states, hook = {}, store._catalog._watcher.__self__
    ran = []

    class Disturbed:
        def __call__(self, seq):
            with suppress(JournalFull):
                states[store.volume.write(7, b"inside")] = None
                ran.append(seq)
            hook(seq)

    disturbed = Disturbed()
    store._engine.set_fold(disturbed)
    for k in range(800):
        store.volume.write(k, bytes([k % 251]) * (100 + 37 * k % 600))
        states[store.seq] = store.volume.read(0, SIZE)
    assert ran
    snapshot = store.snapshots["base"]
    with store.recover(snapshot.seq) as recovery:
        assert recovery.read(0, SIZE) == snapshot.read(0, SIZE)
    assert states[snapshot.seq] in (None, snapshot.read(0, SIZE))
    assert store.verify().ok
