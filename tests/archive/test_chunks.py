"""A state as chunks: what a table and its packs give back is the state, and only news are sent."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jrnl
from jrnl.archive.chunks import (
    Cancelled,
    PackWriter,
    Table,
    build,
    check_pack,
    read_chunk,
)
from jrnl.archive.objects import from_url
from jrnl.archive.reader import Damaged, Reader
from jrnl.errors import ArchiveFull, CorruptionError, InvalidArgument

KIB = 1 << 10
EXTENT = [("volume", "<u2"), ("offset", "<u8"), ("length", "<u8")]
_names = count()


def fresh_objects():
    return from_url(f"memory://chunks-{next(_names)}")


def extents(ranges):
    return np.array(ranges, EXTENT)


class Kept:
    """A store in memory beside an archive of its snapshots, and what each one sent."""

    def __init__(self, sizes, pack_bytes=256 * KIB):
        self.store = jrnl.create(volumes=sizes, journal="4MiB")
        self.names = list(sizes)
        self.sizes = list(sizes.values())
        self.objects = fresh_objects()
        self.table = None
        self.number = 1
        self.pack_bytes = pack_bytes
        self.dirty = []

    def write(self, volume, offset, data):
        self.store[self.names[volume]].write(offset, data)
        self.dirty.append((volume, offset, len(data)))

    def zero(self, volume, offset, length):
        self.store[self.names[volume]].write_zeroes(offset, length)
        self.dirty.append((volume, offset, length))

    def snapshot(self, *, everything=False, **options):
        """Return the bytes of the packs, and of the table."""
        packs = PackWriter(self.objects, 1, self.number, pack_bytes=self.pack_bytes)
        dirty = None if everything else extents(self.dirty)
        table = build(self.table, dirty, self.store, packs, **options)
        body = table.to_bytes()
        self.table = Table.parse(body, "snap/1", self.sizes)
        for name in ("rows", "chunks"):
            assert np.array_equal(getattr(self.table, name), getattr(table, name))
        assert self.table.packs == table.packs
        self.number, self.dirty = packs.next_number, []
        return packs.sent_bytes, len(body)

    def image(self, volume):
        """What the table says, read chunk by chunk."""
        content = bytearray(self.sizes[volume])
        rows = self.table.rows[self.table.rows["volume"] == volume]
        chunks = dict(zip(rows["chunk"].tolist(), self.table.read(
            self.objects, rows["chunk"].tolist()), strict=True))  # fmt: skip
        for row in rows:
            start, skip, length = (int(row[name]) for name in ("offset", "skip", "length"))
            content[start : start + length] = chunks[int(row["chunk"])][skip : skip + length]
        return bytes(content)

    def check(self):
        for volume, name in enumerate(self.names):
            assert self.image(volume) == self.store[name].read(0, self.sizes[volume])


ODD = {"a": 300_001, "b": 1, "c": 65_536, "d": 4095, "e": 200_000}


@pytest.mark.parametrize("everything", [False, True])
def test_every_snapshot_is_the_state(seed, everything):
    dice = random.Random(seed)
    kept = Kept(ODD, pack_bytes=50_000)
    for _ in range(12):
        for _ in range(dice.choice([0, 1, 3, 20])):
            volume = dice.randrange(len(ODD))
            offset = dice.randrange(kept.sizes[volume])
            length = min(dice.choice([1, 100, 4096, 30_000, 150_000]), kept.sizes[volume] - offset)
            if dice.random() < 0.25:
                kept.zero(volume, offset, length)
            else:
                kept.write(volume, offset, dice.randbytes(length))
        kept.snapshot(everything=everything)
        kept.check()


def test_a_state_that_is_empty_needs_no_pack():
    kept = Kept({"a": 1 << 20})
    assert kept.snapshot()[0] == 0
    assert kept.table.rows.size == kept.table.chunks.size == len(kept.table.packs) == 0
    kept.write(0, 0, bytes(300_000))  # zeroes
    assert kept.snapshot()[0] == 0
    kept.check()


def test_what_is_zeroed_leaves_the_table():
    kept = Kept({"a": 1 << 20})
    kept.write(0, 0, random.randbytes(500_000))
    kept.snapshot()
    kept.zero(0, 0, 1 << 20)
    assert kept.snapshot()[0] == 0
    assert kept.table.rows.size == 0
    assert kept.table.packs == ()


def test_equal_chunks_are_sent_once():
    kept = Kept({"a": 2 << 20, "b": 1 << 20})
    block = random.randbytes(64 * KIB)
    for volume, places in ((0, range(16)), (1, range(0, 16, 2))):
        for k in places:
            kept.write(volume, k * 64 * KIB, block)
    sent, _ = kept.snapshot()
    assert 64 * KIB < sent < 65 * KIB
    assert kept.table.chunks.size == 1
    kept.write(0, 1 << 20, block)  # in the table before
    assert kept.snapshot()[0] == 0
    kept.check()


def test_looking_at_everything_sends_nothing_that_is_there():
    kept = Kept({"a": 1 << 20})
    kept.write(0, 5000, random.randbytes(900_000))
    kept.snapshot()
    assert kept.snapshot(everything=True)[0] == 0
    assert kept.snapshot()[0] == 0
    kept.check()


def test_what_packs_well_takes_little():
    kept = Kept({"a": 1 << 20})
    kept.write(0, 0, b"some text of a kind " * 50_000)
    sent, _ = kept.snapshot()
    assert sent < 20_000
    kept.check()


@pytest.mark.parametrize("scattered", [True, False])
def test_a_hundredth_of_a_volume_changed_sends_little_more(scattered):
    size = 64 << 20
    kept = Kept({"a": size}, pack_bytes=8 << 20)
    for k in range(64):
        kept.write(0, k << 20, random.randbytes(1 << 20))
    sent, _ = kept.snapshot()
    assert size < sent < 1.001 * size
    blocks = size // 4096
    some = blocks // 100
    places = random.sample(range(blocks), some) if scattered else range(77, 77 + some)
    for place in places:
        kept.write(0, place * 4096, random.randbytes(4096))
    sent, table = kept.snapshot()
    assert sent + table <= 0.0115 * size
    kept.check()


def test_a_piece_in_many_parts_is_sent_again_whole():
    kept = Kept({"a": 256 * KIB})
    kept.write(0, 0, random.randbytes(256 * KIB))
    kept.snapshot()
    for k in range(4):
        kept.write(0, (4 * k + 1) * 4096, random.randbytes(4096))
        sent, _ = kept.snapshot()
        first = kept.table.rows[kept.table.rows["offset"] < 64 * KIB]
        if k < 3:  # each change splits one part into three
            assert first.size == 2 * k + 3
            assert sent < 5000
    assert first.size == 1
    assert 64 * KIB < sent < 65 * KIB
    kept.check()
    # Its old chunk is named no more; the pack is, for the other pieces.
    assert kept.table.chunks.size == 4


def test_a_change_of_one_byte_sends_its_block():
    kept = Kept({"a": 300_001})
    kept.write(0, 0, random.randbytes(300_001))
    kept.snapshot()
    for offset, length in ((70_000, 4096), (300_000, 300_001 - 299_008)):
        kept.write(0, offset, b"?")
        sent, _ = kept.snapshot()
        assert length <= sent - 64 <= length + 1
        kept.check()


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 70), st.integers(1, 20), st.sampled_from("wzn")), max_size=6
        ),
        max_size=5,
    )
)
def test_snapshots_follow_a_plain_model(rounds):
    size = 71 * 4096 - 5
    kept = Kept({"a": size}, pack_bytes=20_000)
    model = bytearray(size)
    for number, acts in enumerate(rounds):
        for block, blocks, what in acts:
            start, stop = block * 4096, min((block + blocks) * 4096, size)
            if what == "w":
                model[start:stop] = random.Random(f"{number} {block}").randbytes(stop - start)
            elif what == "z":
                model[start:stop] = bytes(stop - start)
            kept.write(0, start, model[start:stop])
        kept.snapshot()
        assert kept.image(0) == model
        for start, length in ((0, size), (4095, 2), (65_000, 70_000), (size - 1, 1)):
            assert found(kept, start, length) == model[start : start + length]


def found(kept, start, length):
    """What `find` and the chunks say of a range."""
    content = bytearray(length)
    rows = kept.table.find(0, start, length)
    assert (rows["length"] > 0).all()
    for row in rows:
        place, skip, many = (int(row[name]) for name in ("offset", "skip", "length"))
        assert start <= place
        assert place + many <= start + length
        chunk = read_chunk(kept.objects, kept.table, int(row["chunk"]))
        content[place - start : place - start + many] = chunk[skip : skip + many]
    return bytes(content)


def test_what_is_found_is_cut_to_the_range():
    kept = Kept({"a": 400_000, "b": 400_000})
    kept.write(0, 70_000, random.randbytes(60_000))
    kept.write(1, 0, random.randbytes(10))
    kept.snapshot()
    for start, length in ((0, 10), (70_000, 1), (69_999, 3), (0, 400_000), (129_999, 100_000)):
        assert found(kept, start, length) == kept.store["a"].read(start, length)
    assert kept.table.find(0, 131_072, 1000).size == 0
    assert kept.table.find(0, 0, 0).size == 0
    assert kept.table.find(7, 0, 1000).size == 0
    assert kept.table.find(1, 0, 1000)["length"].tolist() == [1000]


def test_packs_are_whole_objects_of_their_own():
    kept = Kept({"a": 1 << 20}, pack_bytes=100_000)
    kept.write(0, 0, random.randbytes(1 << 20))
    sent, _ = kept.snapshot()
    listed = {found.key: found.bytes for found in kept.objects.list("pack/")}
    assert listed == {pack.key: pack.bytes for pack in kept.table.packs}
    assert sent == sum(listed.values())
    assert max(listed.values()) <= 100_000 + 64 * KIB
    for pack in kept.table.packs:
        body = kept.objects.get(pack.key)
        check_pack(pack, body)
        with pytest.raises(CorruptionError, match=pack.key):
            check_pack(pack, body[:-1] + bytes([body[-1] ^ 1]))
        with pytest.raises(CorruptionError, match=pack.key):
            check_pack(pack, body + b"\0")


def test_a_damaged_chunk_is_noticed_and_its_pack_named():
    kept = Kept({"a": 200_000})
    kept.write(0, 0, random.randbytes(64 * KIB))  # stored as it is
    kept.write(0, 64 * KIB, b"packs well " * 5000)
    kept.snapshot()
    key = kept.table.packs[0].key
    body = bytearray(kept.objects.get(key))
    for chunk, place in ((0, 64 + 10), (1, len(body) - 3)):
        bad = body.copy()
        bad[place] ^= 1
        kept.objects.delete([key])
        kept.objects.create(key, bytes(bad))
        with pytest.raises(CorruptionError, match=key):
            read_chunk(kept.objects, kept.table, chunk)
        assert kept.table.read(kept.objects, [1 - chunk])


@pytest.mark.parametrize("packed", [False, True])
def test_most_of_a_pack_is_read_by_one_request_and_damage_is_a_chunks(packed):
    kept = Kept({"a": 20 * 64 * KIB}, pack_bytes=8 << 20)
    block = random.randbytes(4096)
    kept.write(0, 0, b"".join(bytes([k]) + block * 16 for k in range(20))[: 20 * 64 * KIB]
               if packed else random.randbytes(20 * 64 * KIB))  # fmt: skip
    kept.snapshot()
    asked = []
    get_ranges = kept.objects.get_ranges
    kept.objects.get_ranges = lambda key, ranges: asked.append(ranges) or get_ranges(key, ranges)
    content = kept.store.volume.read(0, 20 * 64 * KIB)

    def read(wanted):
        manifest = SimpleNamespace(store=SimpleNamespace(volumes=[]), lists=[])
        with ThreadPoolExecutor(2) as pool:
            reader = Reader(kept.objects, manifest, pool)
            found = reader.together(reader.chunks(kept.table, np.array(wanted)))
        for number, chunk in (pair for some in found for pair in some):
            assert chunk == content[number * 64 * KIB : (number + 1) * 64 * KIB]

    [pack] = kept.table.packs
    read(range(1, 20))
    assert asked == [[(0, pack.bytes)]]
    bad = bytearray(kept.objects.get(pack.key))
    bad[int(kept.table.chunks["position"][3]) + 5] ^= 1
    kept.objects.delete([pack.key])
    kept.objects.create(pack.key, bytes(bad))
    read([k for k in range(20) if k != 3])
    with pytest.raises(Damaged, match="chunk at"):
        read(range(20))


def test_chunks_are_read_in_the_order_that_was_asked_for():
    kept = Kept({"a": 1 << 20}, pack_bytes=150_000)
    kept.write(0, 0, random.randbytes(1 << 20))
    kept.snapshot()
    wanted = [5, 0, 15, 5, 3]
    content = kept.store.volume.read(0, 1 << 20)
    assert kept.table.read(kept.objects, wanted) == [
        content[k * 64 * KIB : (k + 1) * 64 * KIB] for k in wanted
    ]
    assert kept.table.read(kept.objects, []) == []


class Full:
    """Objects of which one cannot be created any more."""

    url = "memory://full"

    def __init__(self, objects, most):
        self.objects, self.most = objects, most
        self.lock = threading.Lock()

    def create(self, key, body):
        with self.lock:
            self.most -= 1
            if self.most < 0:
                raise ArchiveFull("no room")
        self.objects.create(key, body)


def test_a_pack_that_cannot_be_put_ends_it_and_its_number_is_not_used_again():
    kept = Kept({"a": 1 << 20}, pack_bytes=100_000)
    kept.write(0, 0, random.randbytes(1 << 20))
    packs = PackWriter(Full(kept.objects, 2), 1, 5, pack_bytes=100_000)
    with pytest.raises(ArchiveFull):
        build(None, None, kept.store, packs)
    used = [listed.key for listed in kept.objects.list("pack/")]
    assert len(used) == 2
    kept.number = packs.next_number
    assert kept.number >= 7
    kept.snapshot()
    assert not {pack.key for pack in kept.table.packs} & set(used)
    kept.check()


def test_it_is_told_how_far_it_is_and_can_be_ended():
    kept = Kept({"a": 20 << 20})
    for k in range(20):
        kept.write(0, k << 20, random.randbytes(1 << 20))
    told = []
    kept.snapshot(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (20 << 20, 20 << 20)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 3
    answers = iter([False, False])
    with pytest.raises(Cancelled):
        kept.snapshot(everything=True, cancelled=lambda: next(answers, True))


def test_threads_that_read_the_state_while_it_is_written_see_what_was_pinned():
    kept = Kept({"a": 8 << 20})
    for k in range(8):
        kept.write(0, k << 20, random.randbytes(1 << 20))
    snapshot = kept.store.snapshot("at")
    wanted = kept.store.volume.read(0, 8 << 20)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            kept.store.volume.write(random.randrange(8 << 20) & ~7, b"12345678")

    writer = threading.Thread(target=write)
    writer.start()
    packs = PackWriter(kept.objects, 1)
    kept.table = build(None, None, snapshot, packs)
    stop.set()
    writer.join()
    assert kept.image(0) == wanted


def test_a_chunk_that_cannot_be_is_refused():
    packs = PackWriter(fresh_objects(), 1)
    for content in (b"", bytes(64 * KIB + 1)):
        with pytest.raises(InvalidArgument):
            packs.add(content)
    assert packs.add(b"one") == 0
    assert packs.add(b"two") == 1
    assert packs.add(b"one") == 0
    chunks, written = packs.finish()
    assert chunks["length"].tolist() == [3, 3]
    assert [pack.key for pack in written] == packs.keys == ["pack/00000001-000000000001"]
