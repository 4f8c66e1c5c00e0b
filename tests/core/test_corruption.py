"""Damage in memory: found wherever a checksum can see it; it spoils only what needs that part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest

import jrnl
from tests.model.fingerprint import unchanged

SIZE = 20_000
HEADER_BYTES = 64
IMAGE_ALIGN = 64
States = dict[int, bytes]


class History:
    """A store, and what each of its states holds."""

    def __init__(self, images: str, *, writes: int = 6, **options: object) -> None:
        self.store = jrnl.create(size=SIZE, journal="16KiB", images=images, **options)
        self.random = np.random.default_rng(3)
        self.states: States = {0: bytes(SIZE)}
        self.write(writes)

    def note(self) -> None:
        self.states[self.store.seq] = self.store.volume.read(0, SIZE)

    def write(self, count: int = 1, longest: int = 150) -> None:
        """Overlapping writes of random bytes, so that no wrong byte goes unseen."""
        for _ in range(count):
            length = int(self.random.integers(1, longest))
            offset = int(self.random.integers(400))
            self.store.volume.write(offset, self.random.integers(1, 256, length, np.uint8))
            self.note()

    def slots(self) -> list[tuple[int, int]]:
        """Position and length of each retained entry's images."""
        places, position = [], 0
        for entry in self.store.journal.entries:
            room = -(-int(entry["length"]) // IMAGE_ALIGN) * IMAGE_ALIGN
            places.append((position, int(entry["length"])))
            position += room
        return places

    @contextmanager
    def damaged_header(self, index: int, byte: int, mask: int) -> Iterator[None]:
        engine = self.store._engine
        engine._damage_header(index, byte, mask)
        yield
        engine._damage_header(index, byte, mask)

    @contextmanager
    def damaged_image(self, position: int, mask: int = 1) -> Iterator[None]:
        engine = self.store._engine
        engine._damage_image(position, mask)
        yield
        engine._damage_image(position, mask)

    def outcomes(self, **options: object) -> dict[int, bool]:
        """For each state, whether it is rebuilt; never wrongly."""
        found = {}
        for seq, content in self.states.items():
            try:
                with self.store.recover(seq, **options) as recovery:
                    assert recovery.seq == seq
                    assert recovery.read(0, SIZE) == content, f"wrong bytes at state {seq}"
                    found[seq] = True
            except jrnl.CorruptionError:
                found[seq] = False
        return found


def header_bits() -> Iterator[tuple[int, int]]:
    for byte in range(HEADER_BYTES):
        for bit in range(8):
            yield byte, 1 << bit


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("index", [0, 2, 5])
def test_no_bit_of_a_header_can_flip_unseen(images, index):
    history = History(images)
    history.store.snapshot("now").wait()
    if images == "after":
        history.store.close()
        history = History(images, writes=0)
        history.store.snapshot("start").wait()
        history.write(6)
    for byte, mask in header_bits():
        with history.damaged_header(index, byte, mask):
            report = history.store.verify()
            assert not report.ok
            assert f"entry {index + 1} " in report.problems[0]
            history.outcomes()
    assert history.store.verify().ok
    assert all(history.outcomes().values())


@pytest.mark.parametrize("byte", range(0, HEADER_BYTES, 3))
def test_a_damaged_header_spoils_only_the_states_before_its_entry(byte):
    history = History("before")
    for index in range(6):
        with history.damaged_header(index, byte, 0x10):
            found = history.outcomes()
            assert found == {seq: seq > index for seq in history.states}
            for seq in history.states:
                if not found[seq]:
                    with unchanged_but_entries(history), pytest.raises(jrnl.CorruptionError):
                        history.store.rewind(seq)
                    with pytest.raises(jrnl.CorruptionError, match=f"entry {index + 1} "):
                        history.store.view(seq)
            with pytest.raises(jrnl.CorruptionError):
                history.store.journal.entries  # noqa: B018


@contextmanager
def unchanged_but_entries(history: History) -> Iterator[None]:
    """Like unchanged(), where the entries cannot be read."""
    store = history.store
    before = store.digest(), store.seq, store.window, store.journal.used
    yield
    assert (store.digest(), store.seq, store.window, store.journal.used) == before


@pytest.mark.parametrize("byte", range(0, HEADER_BYTES, 5))
def test_with_after_images_a_damaged_header_spoils_the_states_from_its_entry_on(byte):
    history = History("after", writes=0)
    history.store.snapshot("start").wait()
    history.write(6)
    for index in range(6):
        with history.damaged_header(index, byte, 0x10):
            # The newest state is production itself.
            assert history.outcomes() == {seq: seq <= index or seq == 6 for seq in history.states}


@pytest.mark.parametrize("images", ["before", "both"])
def test_a_rewind_drops_no_entry_on_the_word_of_a_damaged_header(images):
    for index in range(6):
        for byte, mask in [(38, 7), (39, 1), (0, 3), (24, 64), (32, 255)]:
            history = History(images)
            history.store._engine._damage_header(index, byte, mask)
            try:
                history.store.rewind(4)
            except jrnl.CorruptionError:
                assert index >= 3
                assert history.store.volume.read(0, SIZE) == history.states[6]
                continue
            assert history.store.volume.read(0, SIZE) == history.states[4]
            history.store._engine._damage_header(index, byte, mask)
            for seq in range(4):
                assert history.store.recover(seq).read(0, SIZE) == history.states[seq]


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_every_bit_of_an_image_is_under_its_checksum(images):
    history = History(images, writes=0)
    history.store.snapshot("start").wait()
    history.write(3, longest=60)
    area = 16384 * 7 // 8
    used = {}
    for position in range(history.store.journal.used - 3 * HEADER_BYTES):
        for bit in (0, 7):
            with history.damaged_image(position, 1 << bit):
                report = history.store.verify()
                used[position] = not report.ok
                found = history.outcomes()
                if report.ok:
                    assert all(found.values())
    lengths = history.store.journal.entries["length"]
    assert sum(used.values()) == int(lengths.sum()) * (2 if images == "both" else 1)
    with pytest.raises(IndexError):
        history.store._engine._damage_image(area, 1)


def test_a_damaged_image_spoils_only_the_states_that_take_bytes_from_it():
    store = jrnl.create(size=SIZE, journal="16KiB")
    for block in (0, 1000, 2000, 0):
        store.volume.write(block, bytes([block // 100 + 1]) * 64)
    store._engine._damage_image(64, 1)  # of entry 2
    for seq in (0, 1):
        recover_fails(store, seq, "entry 2 does not match its checksum")
        with unchanged(store), pytest.raises(jrnl.CorruptionError, match="entry 2 "):
            store.rewind(seq)
    assert store.recover(2).read(0, 64) == bytes([1]) * 64
    with store.view(0) as view:
        assert view.read(0, 64) == view.read(2000, 64) == bytes(64)
    with store.view(0) as view, pytest.raises(jrnl.CorruptionError, match="entry 2 "):
        view.read(1063, 1)
    with pytest.raises(jrnl.CorruptionError, match="entry 2 "):
        store.digest(0)
    with pytest.raises(jrnl.CorruptionError, match="entry 2 "):
        store.journal.before(2)
    assert store.journal.before(3) == bytes(64)
    assert store.verify().problems == ["entry 2 does not match its checksum"]
    assert store.rewind(2).entries == 2
    assert store.volume.read(2000, 64) == bytes(64)


def recover_fails(store: jrnl.Store, to: object, message: str, **options: object) -> None:
    with unchanged(store), pytest.raises(jrnl.CorruptionError, match=message):
        store.recover(to, **options)


def test_another_way_around_the_damage_is_taken_where_there_is_one():
    history = History("both", writes=3)
    history.store.snapshot("middle").wait()
    history.write(3)
    for index in (4, 5):
        with history.damaged_header(index, 20, 1):
            found = history.outcomes()
            assert found == {seq: seq <= 3 or seq >= index for seq in history.states} | {4: True}
            assert history.store.recover(2).base == "middle"


def test_the_snapshot_that_holds_a_state_is_taken_where_the_entries_are_damaged():
    history = History("before", writes=3)
    history.store.snapshot("middle").wait()
    history.write(3)
    with history.damaged_header(4, 20, 1):
        assert history.store.recover("middle").read(0, SIZE) == history.states[3]
        assert history.store.view("middle").read(0, SIZE) == history.states[3]
        assert history.outcomes(base="middle")[3]


# Snapshots


@pytest.fixture
def taken():
    history = History("before")
    history.store.snapshot("taken").wait()
    history.write(2)
    return history


def test_damage_in_a_snapshot_is_found_by_all_that_reads_it(taken):
    store, snapshot = taken.store, taken.store.snapshots["taken"]
    assert snapshot.verify().ok
    snapshot._image._damage(0, 4100, 0x40)
    message = "snapshot does not match its checksum at byte 4096"
    report = snapshot.verify()
    assert (report.ok, report.snapshots, len(report.problems)) == (False, 1, 1)
    assert "'taken': the block at byte 4096 of volume 0" in report.problems[0]
    assert not store.verify().ok
    assert snapshot.read(0, 4096) == taken.states[6][:4096]
    for call in (
        lambda: snapshot.read(4095, 2),
        lambda: store.view("taken").read(8191, 1),
        lambda: store.digest("taken"),
        lambda: store.recover(6, base="taken").read(0, SIZE),
        lambda: store.recover(6, base="taken").as_array(),
        lambda: store.recover(6, base="taken").path(),
        lambda: store.recover(6, base="taken").restore(everything=True),
        lambda: store.recover(2, base="taken").restore(everything=True),
    ):
        with unchanged(store), pytest.raises(jrnl.CorruptionError, match=message):
            call()
    assert store.recover(6, base="taken").read(0, 4096) == taken.states[6][:4096]
    assert store.verify().entries == 8


def test_a_snapshot_and_a_journal_that_disagree_are_found_by_the_bridge():
    # A byte that goes astray before it is summed: no checksum sees it.
    content = bytearray(SIZE)
    store = jrnl.wrap(content, journal="16KiB")
    store.volume.write(0, b"a")
    store.snapshot("taken").wait()
    store.volume.write(100, b"b")
    content[200] = 1
    store.volume.write(200, b"c")
    recover_fails(store, 2, "entry 3 and the snapshot disagree on byte 200", base="taken")
    assert any("'taken'" in problem for problem in store.verify().problems)


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_restores_meet_damage_before_they_change_anything(images):
    history = History(images, writes=0)
    store = history.store
    store.volume.write(0, b"x" * 3000)
    store.volume.write(8192, b"x" * 3000)
    store.snapshot("taken").wait()
    history.note()
    store.volume.write(0, b"y" * 3000)
    store.volume.write(8192, b"y" * 3000)
    store.snapshots["taken"]._image._damage(0, 8192, 1)
    recovery = store.recover("taken", base="taken")
    with unchanged(store), pytest.raises(jrnl.CorruptionError):
        recovery.restore()
    store.snapshots["taken"]._image._damage(0, 8192, 1)
    recovery.restore()
    assert store.volume.read(0, SIZE) == history.states[2]


# Damage that the journal writes over


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_damaged_entry_leaves_the_ring_like_any_other(images):
    for byte in range(0, HEADER_BYTES, 7):
        for index in (0, 3, 9):
            history = History(images, writes=10)
            store = history.store
            if images == "after":
                store.snapshot("start").wait()
            store._engine._damage_header(index, byte, 0xA5)
            for _ in range(60):
                history.write(1, longest=2000)
                oldest, newest = store.window
                assert newest == store.seq
                for seq in {oldest, (oldest + newest) // 2, newest}:
                    check_state(history, seq)
            assert store.verify().ok
            assert store.journal.used <= store.journal.capacity
            retained = [entry for entry in store.journal.entries["seq"].tolist() if entry > 10]
            assert retained == list(range(retained[0], store.seq + 1))


def check_state(history: History, seq: int) -> None:
    try:
        content = history.store.recover(seq).read(0, SIZE)
    except (jrnl.CorruptionError, jrnl.PointExpired):
        return
    assert content == history.states[seq]


def test_what_the_ring_counts_after_damage_is_what_it_holds():
    history = History("before", writes=20)
    for index in (0, 1, 5):
        history.store._engine._damage_header(index, 24, 1)
    for _ in range(300):
        history.write(1, longest=1500)
    entries = history.store.journal.entries
    rooms = -(-entries["length"].astype(np.int64) // IMAGE_ALIGN) * IMAGE_ALIGN
    assert history.store.journal.used == len(entries) * HEADER_BYTES + int(rooms.sum())


def test_when_every_header_is_damaged_writing_goes_on_with_a_new_window():
    history = History("before", writes=30)
    engine = history.store._engine
    for index in range(len(history.store.journal.entries)):
        engine._damage_header(index, 16, 1)
    history.write(5)
    assert history.store.window.oldest >= 30
    assert history.store.verify().ok
    for seq in range(history.store.window.oldest, history.store.seq + 1):
        assert history.store.recover(seq).read(0, SIZE) == history.states[seq]


def test_a_recovery_that_the_damage_reached_first_says_so():
    history = History("before", writes=3)
    recovery = history.store.recover(2)
    history.write(2)
    history.store._engine._damage_header(4, 8, 1)
    for _ in range(60):
        history.write(1, longest=1000)
    with pytest.raises(jrnl.CorruptionError):
        recovery.read(0, SIZE)


def test_an_edit_whose_before_image_is_damaged_cannot_be_undone_and_says_so():
    with jrnl.create(size=SIZE, journal="16KiB") as store:
        with (
            pytest.raises(jrnl.CorruptionError, match="entry 1 "),
            store.volume.edit(0, 64) as lent,
        ):
            lent[:] = 7
            store._engine._damage_image(0, 1)
            raise KeyError
        assert store.volume.read(0, 64) == bytes([7]) * 64
        assert not store.verify().ok
        store.flush()


def test_marks_and_times_are_looked_up_past_damaged_headers():
    store = jrnl.create(size=SIZE, journal="16KiB")
    for k in range(8):
        store.volume.write(k, b"x")
        store.mark(f"mark {k}")
    entries = store.journal.entries
    store._engine._damage_header(7, 3, 0x80)
    assert list(store.marks) == [f"mark {k}" for k in range(8)]
    assert store.recover("mark 7").seq == 16
    assert store.recover("mark 4").read(0, 8) == b"xxxxx\0\0\0"
    with pytest.raises(jrnl.CorruptionError, match="entry 8 "):
        store.recover("mark 2")
    for k in range(15):
        time = datetime.fromtimestamp(int(entries["time_ns"][k]) // 1000 / 1e6, UTC)
        try:
            assert abs(store.recover(time).seq - (k + 1)) <= 2
        except jrnl.CorruptionError:
            assert k <= 9


def test_without_checksums_damage_goes_unseen():
    # What checksum=False gives up, as its documentation says.
    store = jrnl.create(size=SIZE, journal="16KiB", checksum=False)
    store.volume.write(0, b"one")
    store.volume.write(0, b"two")
    store._engine._damage_image(64, 1)
    assert store.verify().ok
    assert store.recover(1).read(0, 3) == b"nne"
    assert "checksum : bool" in (jrnl.create.__doc__ or "")
