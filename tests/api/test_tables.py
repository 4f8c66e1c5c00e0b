"""Entries as rows and as a Parquet file: held against the journal's own table."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

import jrnl
from jrnl import logwrites, tables
from tests.model.logs import DISCARD, FLUSH, FUA, METADATA, Entry, discard, flush, mark, pack_log
from tests.model.logs import write as log_write

SECTOR = b"x" * 512


@pytest.fixture
def store():
    with jrnl.create(volumes={"a": 8192, "b": 4096}, journal="64KiB") as made:
        made["a"].write(5, b"hello")
        made.mark("näme")
        made["b"].discard(0, 100)
        made.flush()
        made["b"].write_zeroes(7, 4)
        made.rewind("näme")
        made["b"].write(1, b"x")
        yield made


@pytest.fixture
def log(tmp_path):
    entries = [
        log_write(2, SECTOR, flags=FLUSH | FUA),
        discard(0, 4),
        mark("1"),
        flush(),
        Entry(flags=METADATA),
        log_write(0, SECTOR, flags=METADATA),
    ]
    (tmp_path / "log").write_bytes(pack_log(entries))
    with logwrites.attach(tmp_path / "log", size=8192) as made:
        yield made


def check_times(rows, entries):
    for row, time_ns in zip(rows, entries["time_ns"].tolist(), strict=True):
        time = datetime.fromisoformat(row["time"])
        assert row["time"].endswith(f"{time_ns % 10**9:09}Z")
        assert int(time.timestamp()) == time_ns // 10**9


def test_rows_say_what_each_entry_of_a_store_is(store):
    rows = [*tables.rows(store)]
    check_times(rows, store.journal.entries)
    for row in rows:
        del row["time"]
    assert rows == [
        {"seq": 1, "kind": "write", "volume": "a", "offset": 5, "length": 5},
        {"seq": 2, "kind": "mark", "name": "näme"},
        {"seq": 6, "kind": "rewind", "state": 2},
        {"seq": 7, "kind": "write", "volume": "b", "offset": 1, "length": 1},
    ]


def test_rows_say_what_each_entry_of_a_log_is(log):
    assert [*tables.rows(log)] == [
        {"seq": 1, "kind": "write", "volume": "data", "offset": 1024, "length": 512,
         "flags": ["flush", "fua"]},
        {"seq": 2, "kind": "discard", "volume": "data", "offset": 0, "length": 2048,
         "flags": ["discard"]},
        {"seq": 3, "kind": "mark", "name": "mark-1", "flags": ["mark"]},
        {"seq": 4, "kind": "flush", "flags": ["flush"]},
        {"seq": 5, "kind": "empty", "flags": ["metadata"]},
        {"seq": 6, "kind": "write", "volume": "data", "offset": 0, "length": 512,
         "flags": ["metadata"]},
    ]  # fmt: skip
    assert log.marks == {"mark-1": 3}


def test_all_kinds_have_the_names_that_the_package_gives_them(store):
    store["a"].discard(0, 1)
    store["a"].write_zeroes(0, 1)
    store.flush()
    for row, kind in zip(tables.rows(store), store.journal.entries["kind"], strict=True):
        assert row["kind"] == jrnl.Kind(kind).name.lower()
        json.dumps(row)


@pytest.mark.parametrize("history", ["store", "log"])
def test_rows_go_from_the_one_bound_to_the_other(history, request):
    shown = request.getfixturevalue(history)
    every = [row["seq"] for row in tables.rows(shown)]
    name = next(iter(shown.marks))
    at = shown.view(name).seq
    for start in (None, -5, 0, 1, 2, 3, 100, 2**80):
        for stop in (None, -5, 0, 1, 3, 100, 2**80):
            found = [row["seq"] for row in tables.rows(shown, start, stop)]
            low, high = -1 if start is None else start, 2**99 if stop is None else stop
            assert found == [seq for seq in every if low <= seq <= high]
    assert [row["seq"] for row in tables.rows(shown, name)] == [s for s in every if s >= at]
    assert [row["seq"] for row in tables.rows(shown, stop=name)] == [s for s in every if s <= at]
    for bad, error in (("nobody", jrnl.UnknownPoint), (1.5, jrnl.InvalidType)):
        with pytest.raises(error):
            tables.rows(shown, bad)


@pytest.mark.parametrize("history", ["store", "log"])
def test_a_parquet_file_has_the_same_rows(history, request, tmp_path):
    shown = request.getfixturevalue(history)
    tables.to_parquet(shown, tmp_path / "table")
    table = pq.read_table(tmp_path / "table")
    rows = [*tables.rows(shown)]
    for row in rows:
        row.pop("time", None)
        if "flags" in row:
            row["flags"] = "|".join(row["flags"])
    found = table.drop_columns("time").to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in found] == rows


def test_a_parquet_file_of_many_entries_is_the_journal_in_row_groups(tmp_path):
    with jrnl.create(volumes={"a": 1 << 20, "b": 1 << 20}, journal="64MiB") as store:
        for name in ("a", "b"):
            store[name].write_many(np.arange(40_000) * 26, np.ones((40_000, 8), np.uint8))
        store.flush()
        tables.to_parquet(store, tmp_path / "table", start=5)
        entries = store.journal.between(5)
        file = pq.ParquetFile(tmp_path / "table")
        groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        assert groups == [65536, len(entries) - 65536]
        table = file.read()
        assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]"
        assert table["time"].cast("int64").to_numpy().tolist() == entries["time_ns"].tolist()
        assert table["seq"].to_numpy().tolist() == entries["seq"].tolist()
        for name in ("offset", "length"):
            assert table[name].to_pylist()[:-1] == entries[name][:-1].tolist()
        assert table["volume"].to_pylist() == ["a"] * 39_996 + ["b"] * 40_000 + [None]
        assert table["kind"].to_pylist() == ["write"] * 79_996 + ["flush"]


def test_a_table_of_no_entries_is_one(tmp_path):
    with jrnl.create(size=4096) as store:
        assert [*tables.rows(store)] == []
        tables.to_parquet(store, tmp_path / "table")
    assert pq.read_table(tmp_path / "table").num_rows == 0


def test_a_table_is_written_whole_or_not_at_all(store, tmp_path):
    there = tmp_path / "there"
    there.write_bytes(b"kept")
    with pytest.raises(jrnl.PathExists, match="already"):
        tables.to_parquet(store, there)
    with pytest.raises(jrnl.UnknownPoint):
        tables.to_parquet(store, tmp_path / "new", start="nobody")
    with pytest.raises(jrnl.InvalidType, match="history"):
        tables.to_parquet(store["a"], tmp_path / "new")
    store.close()
    for history in (store, jrnl.create(size=4096)):
        history.close()
        with pytest.raises(jrnl.StoreClosed):
            tables.to_parquet(history, tmp_path / "new")
        with pytest.raises(jrnl.StoreClosed):
            tables.rows(history)
    assert os.listdir(tmp_path) == ["there"]
    assert there.read_bytes() == b"kept"


def test_a_closed_log_has_no_rows(log):
    log.close()
    with pytest.raises(jrnl.StoreClosed):
        tables.rows(log)


def test_without_pyarrow_it_is_said_what_to_install(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(jrnl.MissingPackage, match=r"pip install 'jrnl-engine\[parquet\]'"):
        tables.to_parquet(store, tmp_path / "new")
    assert os.listdir(tmp_path) == []
    assert len([*tables.rows(store)]) == 4


def test_a_discard_of_a_log_has_the_flag_that_says_so(log):
    assert int(log.entries["flags"][1]) == DISCARD
