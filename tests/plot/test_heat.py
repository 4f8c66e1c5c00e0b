"""Heat: exact, whatever entries cover, held against a model that adds up bytes one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jrnl
from jrnl import logwrites
from tests.model import logs

SIZES = {"a": 3000, "b": 1001}
KINDS = {1: "write", 2: "discard", 3: "zeroes"}

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["write", "discard", "zeroes", "flush", "mark", "rewind"]),
        st.sampled_from([*SIZES]),
        st.integers(0, 3000),
        st.integers(0, 3000),
    ),
    max_size=25,
)


def play(acts: list[tuple[str, str, int, int]]) -> jrnl.Store:
    """A store on which these were done, as far as they fit."""
    store = jrnl.create(volumes=SIZES, journal="1MiB")
    for kind, name, place, longest in acts:
        volume = store[name]
        offset = place % volume.size
        length = min(longest, volume.size - offset)
        if kind == "write":
            volume.write(offset, b"x" * length)
        elif kind == "discard":
            volume.discard(offset, length)
        elif kind == "zeroes":
            volume.write_zeroes(offset, length)
        elif kind == "flush":
            store.flush()
        elif kind == "mark":
            store.mark(f"m-{store.seq}")
        else:
            states = store.states()
            store.rewind(int(states[offset % states.size]))
    return store


def by_bytes(
    rows: list[tuple[int, ...]], sizes: list[int], block: int, edges: list[int], kinds: set[str]
) -> np.ndarray:
    """The same, a byte at a time. A row is (at, kind, volume, offset, length)."""
    first = [0]
    for size in sizes:
        first.append(first[-1] + -(-size // block))
    cells = np.zeros((len(edges) - 1, first[-1]), np.int64)
    for at, kind, volume, offset, length in rows:
        for k in range(len(edges) - 1):
            if edges[k] <= at < edges[k + 1] and KINDS[kind] in kinds:
                blocks = np.arange(offset, offset + length) // block
                np.add.at(cells[k], first[volume] + blocks, 1)
    return cells


def edges_of(values: list[int], bins: int) -> list[int]:
    low, high = (values[0], values[-1]) if values else (0, 0)
    return [low + (high - low + 1) * k // bins for k in range(bins + 1)]


@given(
    ACTS,
    st.integers(1, 4000),
    st.integers(1, 9),
    st.sampled_from(["seq", "time"]),
    st.sets(st.sampled_from([*KINDS.values()]), min_size=1),
    st.data(),
)
def test_heat_is_the_number_of_bytes_of_each_block_that_were_changed_in_each_span(
    acts, block, bins, by, kinds, data
):
    with play(acts) as store:
        states = store.states().tolist()
        start = data.draw(st.sampled_from(states))
        stop = data.draw(st.sampled_from([seq for seq in states if seq >= start]))
        entries = store.journal.between(start + 1, stop)
        entries = entries[np.isin(entries["kind"], [*KINDS])]
        names = ["seq" if by == "seq" else "time_ns", "kind", "volume", "offset", "length"]
        rows = entries[names].tolist()
        edges = edges_of([row[0] for row in rows], bins)
        wanted = by_bytes(rows, [*SIZES.values()], block, edges, kinds)
        options = {"block": block, "start": start, "stop": stop, "by": by, "kinds": kinds}
        found = store.heat(bins=bins, **options)
        assert found.dtype == np.int64
        assert np.array_equal(found, wanted)
        assert found.sum() == sum(row[4] for row in rows if KINDS[row[1]] in kinds)
        if len(set(edges)) == len(edges):
            assert np.array_equal(store.heat(bins=edges, **options), wanted)
            inner = store.heat(bins=np.array(edges[:2]), **options)
            assert np.array_equal(inner, wanted[:1])


@given(ACTS, st.integers(1, 4000), st.integers(1, 5))
def test_the_heat_of_one_volume_is_its_columns_of_that_of_all(acts, block, bins):
    with play(acts) as store:
        whole = store.heat(block, bins, by="seq")
        columns = -(-SIZES["a"] // block)
        assert np.array_equal(store.heat(block, bins, volume="a", by="seq"), whole[:, :columns])
        assert np.array_equal(
            store.heat(block, bins, volume=store["b"], by="seq"), whole[:, columns:]
        )


SECTORS = st.tuples(st.integers(0, 7), st.integers(0, 4), st.sampled_from([1, 2, 4, 16]))


@given(st.lists(SECTORS, max_size=20), st.integers(200, 5000), st.integers(1, 9))
def test_the_heat_of_a_log_is_that_of_its_entries(tmp_path_factory, entries, block, bins):
    path = tmp_path_factory.getbasetemp() / "heat.log"
    log = [
        logs.discard(sector, count)
        if flags & logs.DISCARD
        else logs.write(sector, b"x" * 512 * count, flags=flags)
        for sector, count, flags in entries
    ]
    path.write_bytes(logs.pack_log(log))
    rows = [
        (seq, 2 if entry.flags & logs.DISCARD else 1, 0, 512 * entry.sector, 512 * entry.sectors)
        for seq, entry in enumerate(log, 1)
        if entry.sectors
    ]
    edges = edges_of([row[0] for row in rows], bins)
    with logwrites.attach(path, 16 * 512) as history:
        for kinds in (set(KINDS.values()), {"write"}, {"discard"}, {"zeroes"}):
            wanted = by_bytes(rows, [16 * 512], block, edges, kinds)
            assert np.array_equal(history.heat(block, bins, kinds=kinds), wanted)
        middle = len(log) // 2
        after = history.heat(block, 1, start=middle).sum(axis=0)
        before = history.heat(block, 1, stop=middle).sum(axis=0)
        assert np.array_equal(before + after, history.heat(block, bins).sum(axis=0))


def test_heat_is_of_what_was_written_after_one_point_up_to_another_one():
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        store.volume.write(0, b"x" * 100)
        store.mark("noon")
        store.volume.write(4096, b"x" * 200)
        store.snapshot("evening")
        store.volume.discard(0, 300)
        bounds = [(), ("noon",), (None, "noon"), ("noon", "evening"), ("evening", store.seq)]
        by_block = [store.heat("4KiB", 1, *pair).sum(axis=0)[:2].tolist() for pair in bounds]
        assert by_block == [[400, 200], [300, 200], [100, 0], [0, 200], [300, 0]]


def test_edges_say_which_entries_count_and_where_a_row_ends_the_next_begins():
    with jrnl.create(size=4096, journal="64KiB") as store:
        for length in (1, 10, 100, 1000):
            store.volume.write(0, b"x" * length)
        for edges, rows in {
            (1, 3): [11], (2, 4, 5): [110, 1000], (0, 1): [0], (4, 9, 20): [1000, 0],
            (-5, 2, 3, 4): [1, 10, 100],
        }.items():  # fmt: skip
            assert store.heat(4096, edges, by="seq")[:, 0].tolist() == rows
        times = store.journal.entries["time_ns"]
        assert store.heat(4096, [times[0], times[-1] + 1]).tolist() == [[1111]]


def test_heat_knows_nothing_of_what_a_rewind_dropped():
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        store.volume.write(0, b"x")
        store.mark("good")
        store.volume.write(0, b"xx")
        store.rewind("good")
        assert store.heat(bins=3).sum() == 1


def test_more_numbers_than_fit_are_refused_and_what_is_said_to_fit_does():
    with jrnl.create(size="16TiB", journal="64KiB") as store:
        store.volume.write(15 << 40, b"x")
        with pytest.raises(jrnl.InvalidArgument, match=r"take block=(\d+) \(bytes\)") as raised:
            store.heat()
        block = int(str(raised.value).partition("block=")[2].split()[0])
        with pytest.raises(jrnl.InvalidArgument):
            store.heat(block // 2)
        with pytest.raises(jrnl.InvalidArgument, match="at most 4 bins"):
            store.heat("1MiB", bins=5)
        assert store.heat("1GiB", bins=4).sum() == 1
        assert store.heat(block, bins=256).shape == (256, (16 << 40) // block)


def test_an_entry_that_covers_a_whole_large_volume_costs_no_more_than_its_blocks(tmp_path):
    size = 1 << 62
    log = [logs.discard(0, size // 512), logs.write(7, b"x" * 512), logs.discard(0, size // 512)]
    (tmp_path / "log").write_bytes(logs.pack_log(log))
    with logwrites.attach(tmp_path / "log") as history:
        found = history.heat(block=size // 8, bins=3)
        assert found.tolist() == [[size // 8] * 8, [512] + [0] * 7, [size // 8] * 8]
        with pytest.raises(jrnl.InvalidArgument, match="smaller blocks"):
            history.heat(block=size, bins=1)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"block": 0}, jrnl.InvalidArgument, "block"),
        ({"block": 1.5}, jrnl.InvalidType, "block must be an int"),
        ({"bins": 0}, jrnl.InvalidArgument, "1 or more"),
        ({"bins": True}, jrnl.InvalidType, "not bool"),
        ({"bins": "many"}, jrnl.InvalidType, "edge"),
        ({"bins": [3]}, jrnl.InvalidArgument, "two or more"),
        ({"bins": [3, 3]}, jrnl.InvalidArgument, "must rise"),
        ({"bins": [0, 1 << 63]}, jrnl.InvalidArgument, r"2\*\*63"),
        ({"bins": np.zeros((2, 2))}, jrnl.InvalidArgument, "one row"),
        ({"bins": [0.5, 2.5]}, jrnl.InvalidType, "not float"),
        ({"start": 2, "stop": 1}, jrnl.InvalidArgument, "exchange"),
        ({"stop": 99}, jrnl.UnknownPoint, "99"),
        ({"volume": "root"}, jrnl.UnknownVolume, "root"),
        ({"by": "size"}, jrnl.InvalidArgument, "'time' or by 'seq'"),
        ({"kinds": ["write", "mark"]}, jrnl.InvalidArgument, "not 'mark'"),
    ],
)
def test_what_heat_is_not_made_for_is_refused(tmp_path, arguments, error, said):
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        store.volume.write(0, b"x")
        store.volume.write(0, b"x")
        with pytest.raises(error, match=said):
            store.heat(**arguments)
    (tmp_path / "log").write_bytes(logs.pack_log([logs.write(0, b"x" * 512)] * 2))
    with logwrites.attach(tmp_path / "log", "64KiB") as history:
        with pytest.raises(error, match=said):
            history.heat(**arguments)
        with pytest.raises(jrnl.InvalidArgument, match="no times"):
            history.heat(by="time")


def test_heat_of_nothing_is_zeroes_and_of_a_closed_store_an_error():
    store = jrnl.create(volumes={"a": 100, "b": 1}, journal="64KiB")
    assert store.heat(64, 7).shape == (7, 3)
    assert not store.heat(64, 7).any()
    store.close()
    with pytest.raises(jrnl.StoreClosed):
        store.heat()


def test_heat_of_a_million_entries_counts_each():
    count = 1 << 20
    with jrnl.create(size="1GiB", journal="256MiB") as store:
        offsets = np.arange(count) * 1009 % (1 << 29)
        store.volume.write_many(offsets, np.zeros((count, 8), np.uint8))
        entries = store.journal.entries
        assert entries.size >= count // 2
        assert store.heat("16KiB", 512, by="seq").sum() == 8 * entries.size


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_the_entries_take_of_the_journal_adds_up_to_what_is_used(folder, on_disk):
    path = folder / "store" if on_disk else None
    with jrnl.create(path, size="64KiB", journal="1MiB") as store:
        for k in range(20):
            store.volume.write(k * 100, b"x" * 100)
            store.flush()
        used = store.journal.used_up_to([0, 10, 10, store.seq, store.seq + 5]).tolist()
        assert 0 == used[0] < used[1] == used[2] < used[3] == used[4]
        assert store.journal.used - used[4] == (512 if on_disk else 0)
        with pytest.raises(jrnl.InvalidArgument, match="rise"):
            store.journal.used_up_to([3, 2])
