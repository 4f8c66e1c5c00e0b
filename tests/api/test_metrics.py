"""`store.metrics()` against a count kept beside it, and what of it Prometheus reads."""

from __future__ import annotations

import random
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import jrnl
from jrnl.metrics import COUNTER, METRICS, ON_DISK
from jrnl.watch import serve_metrics

BLOCK = 4096
BLOCKS = 64


class Counted:
    """A store, and a count of what is done to it."""

    def __init__(self, store: jrnl.Store, seed: int) -> None:
        self.store, self.random, self.count = store, random.Random(seed), Counter()
        self.unflushed = False

    def place(self, length: int) -> int:
        return self.random.randrange(BLOCKS * BLOCK - length)

    def made(self, kind: str, size: str, entries: int, byte_count: int) -> None:
        self.count[kind] += entries
        self.count[size] += byte_count
        self.unflushed = True

    def write(self) -> None:
        length = self.random.randrange(1, 2000)
        self.store.volume.write(self.place(length), bytes(length))
        self.made("writes_total", "written_bytes_total", 1, length)

    def write_many(self) -> None:
        offsets = [self.place(100) for _ in range(self.random.randrange(1, 5))]
        self.store.volume.write_many(offsets, bytes(100 * len(offsets)))
        self.made("writes_total", "written_bytes_total", len(offsets), 100 * len(offsets))

    def refused(self) -> None:
        with pytest.raises(jrnl.OutOfBounds):
            self.store.volume.write_many([0, BLOCKS * BLOCK], b"xx")

    def edit(self) -> None:
        with self.store.volume.edit(self.place(50), 50) as lent:
            lent[:] = 1
        self.made("writes_total", "written_bytes_total", 1, 50)

    def fill(self, kind: str, size: str, call: Callable[[int, int], int]) -> None:
        length = self.random.randrange(1, 3 * BLOCK)
        before = self.store.seq
        call(self.place(length), length)
        self.made(kind, size, self.store.seq - before, length)

    def discard(self) -> None:
        self.fill("discards_total", "discarded_bytes_total", self.store.volume.discard)

    def write_zeroes(self) -> None:
        self.fill("zeroes_total", "zeroed_bytes_total", self.store.volume.write_zeroes)

    def mark(self) -> None:
        self.store.mark(f"m{self.count['marks_total']}")
        self.count["marks_total"] += 1
        self.unflushed = True

    def flush(self) -> None:
        self.store.flush()
        self.count["flushes_total"] += self.unflushed
        self.unflushed = False

    def rewind(self) -> None:
        states = self.store.states(self.store.window.oldest)
        to = int(self.random.choice(states.tolist()[-4:]))
        if self.store.rewind(to).entries:
            self.count["rewinds_total"] += 1
            self.unflushed = True

    def restore(self) -> None:
        with self.store.recover(self.store.window.oldest) as recovery:
            done = recovery.restore()
        self.count["restores_total"] += 1
        if done.bytes:
            entries = done.last_seq - done.first_seq + 1
            self.made("writes_total", "written_bytes_total", entries, done.bytes)


ACTS = [
    Counted.write, Counted.write, Counted.write_many, Counted.edit, Counted.discard,
    Counted.write_zeroes, Counted.mark, Counted.flush, Counted.rewind, Counted.restore,
    Counted.refused,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_counters_are_those_of_a_count_kept_beside_and_never_go_down(tmp_path, on_disk, seed):
    path = tmp_path / "s" if on_disk else None
    known = {**METRICS, **(ON_DISK if on_disk else {})}
    with jrnl.create(path, size=BLOCKS * BLOCK, journal="64KiB", images="both") as store:
        counted, last = Counted(store, seed), store.metrics()
        for _ in range(300):
            counted.random.choice(ACTS)(counted)
            now = store.metrics()
            assert set(now) == set(known)
            for name, metric in known.items():
                if metric.kind == COUNTER:
                    assert now[name] >= last[name], name
            for name, count in counted.count.items():
                assert now[name] == count, name
            entries = sum(now[name] for name in (
                "writes_total", "discards_total", "zeroes_total", "marks_total", "flushes_total",
                "rewinds_total"))  # fmt: skip
            assert entries == now["seq"] == store.seq
            assert now["window_oldest"] == store.window.oldest
            assert now["journal_entries"] == store.journal.entries.size
            assert now["journal_used_bytes"] == store.journal.used
            assert now["evictions_total"] == store.stats(store.window.oldest).evictions
            last = now
        assert last["evictions_total"] > 0


def test_counters_begin_with_nothing_when_a_store_is_opened(tmp_path):
    with jrnl.create(tmp_path / "s", size=BLOCK, journal="64KiB") as store:
        store.volume.write(0, b"x")
        assert store.metrics()["writes_total"] == 1
    with jrnl.open(tmp_path / "s") as store:
        assert store.metrics()["writes_total"] == 0
        assert store.metrics()["seq"] == store.metrics()["durable_seq"] == 1


def test_gauges_follow_what_is_open():
    with jrnl.create(size=BLOCK, journal="16KiB") as store:
        names = ("snapshots", "recoveries_open", "views_open", "pins")
        store.volume.write(0, b"x")
        with store.view(0), store.recover(0), store.pin(0):
            store.snapshot("s").wait()
            numbers = store.metrics()
        assert [numbers[name] for name in names] == [1, 1, 1, 1]
        numbers = store.metrics()
        assert [numbers[name] for name in names] == [1, 0, 0, 0]
        assert numbers["copies_pending"] == 0
        assert numbers["copies_total"] == 1
    with pytest.raises(jrnl.StoreClosed):
        store.metrics()


def test_a_discard_that_is_passed_by_is_counted_as_made():
    with jrnl.create(size="4GiB", journal="16KiB") as store:
        store.volume.discard(0, 4 << 30)
        assert store.metrics()["discarded_bytes_total"] == 4 << 30
        assert store.metrics()["discards_total"] == store.seq


def test_all_are_plain_numbers_and_not_negative():
    with jrnl.create(size=BLOCK, journal="16KiB") as store:
        for name, number in store.metrics().items():
            assert type(number) in (int, float), name
            assert number >= 0, name


# Prometheus.


def scrape(port: int) -> dict[str, tuple[str, float]]:
    parser = pytest.importorskip("prometheus_client.parser")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        families = list(parser.text_string_to_metric_families(answer.read().decode()))
    assert all(family.documentation for family in families)
    return {sample.name: (family.type, sample.value)
            for family in families for sample in family.samples}  # fmt: skip


def test_prometheus_reads_what_metrics_tells_until_the_store_is_closed():
    store = jrnl.create(size=BLOCK, journal="16KiB")
    with serve_metrics(store, 0) as server:
        store.volume.write(0, b"12345")
        found, told = scrape(server.port), store.metrics()
        assert found.pop("jrnl_up") == ("gauge", 1)
        assert {name: value for name, (_, value) in found.items()} == {
            f"jrnl_{name}": number for name, number in told.items()
        }
        assert {name: kind for name, (kind, _) in found.items()} == {
            f"jrnl_{name}": METRICS[name].kind for name in told
        }
        store.volume.write(0, b"1")
        assert scrape(server.port)["jrnl_written_bytes_total"][1] == 6
        store.close()
        assert scrape(server.port) == {"jrnl_up": ("gauge", 0)}
        port = server.port
    server.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_a_host_that_others_reach_is_refused(host):
    with jrnl.create(size=BLOCK, journal="16KiB") as store:
        with pytest.raises(jrnl.InvalidArgument, match="anywhere=True"):
            serve_metrics(store, 0, host)
        with suppress(OSError):  # no such address here
            serve_metrics(store, 0, host or "127.0.0.1", anywhere=True).close()


@pytest.mark.parametrize("port", [-1, 65536, "80", True, None])
def test_what_is_no_port_is_refused(port):
    refused = (jrnl.InvalidArgument, jrnl.InvalidType)
    with jrnl.create(size=BLOCK, journal="16KiB") as store, pytest.raises(refused, match="port"):
        serve_metrics(store, port)


def test_a_port_that_is_taken_says_so():
    store = jrnl.create(size=BLOCK, journal="16KiB")
    with serve_metrics(store, 0) as server, pytest.raises(OSError):
        serve_metrics(store, server.port)
    store.close()


def test_two_stores_are_served_side_by_side(tmp_path: Path):
    one = jrnl.create(size=BLOCK, journal="16KiB")
    other = jrnl.create(tmp_path / "s", size=BLOCK, journal="64KiB")
    with one, other, serve_metrics(one, 0) as first, serve_metrics(other, 0) as second:
        other.volume.write(0, b"x")
        assert scrape(first.port)["jrnl_writes_total"][1] == 0
        assert scrape(second.port)["jrnl_writes_total"][1] == 1
        assert "jrnl_durable_seq" in scrape(second.port)
