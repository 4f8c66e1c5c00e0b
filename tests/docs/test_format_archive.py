"""docs/format.md says what an archive's objects are made of, as the code has it."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import numpy as np
import xxhash

from jrnl.archive import packs, preflight, sealed
from jrnl.archive import table as tables
from jrnl.archive.lists import LISTED, NAMED_MOST, list_of
from jrnl.archive.manifest import (
    KINDS,
    Manifest,
    Origin,
    SegmentFacts,
    SnapshotFacts,
    segment_key,
    snapshot_key,
)
from jrnl.archive.runs import PARTS_MOST
from jrnl.archive.segment import DATA_MOST, NOTHING, ROWS_MOST, SEGMENT_ROW, Segment
from jrnl.archive.table import CHUNK, PIECE_BYTES, ROW, Pack, Table, pack_key
from tests.model.places import ROOT

DOCUMENT = (ROOT / "docs" / "format.md").read_text().partition("\n## Archives\n")[2]


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table that begins with a heading."""
    lines = DOCUMENT.partition(f"\n{heading}")[2].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line[1:-1].split("|")] for line in lines]


def test_a_frames_header_is_as_told():
    rows = rows_of("| at | bytes | frame field |")
    places = [int(row[0]) for row in rows]
    sizes = [int(row[1]) for row in rows]
    assert places == [sum(sizes[:k]) for k in range(len(sizes))]
    assert sum(sizes) == sealed.HEADER_BYTES
    told = {row[2]: (int(row[0]), int(row[1])) for row in rows}
    body = sealed.seal(b"table", bytes(1000))
    header = sealed.parse_header(b"table", body, "k", 1000)
    found = {name: body[at : at + size] for name, (at, size) in told.items()}
    assert found["magic"] == b"JRNLARCH" == sealed.MAGIC
    assert found["kind"] == b"table\0\0\0"
    assert found["version"] == sealed.VERSION.to_bytes(2, "little")
    assert found["codec"] == b"\1"
    assert found["flags"] == sealed.FLAGS.to_bytes(4, "little")
    assert found["stored"] == header.stored.to_bytes(8, "little")
    assert found["length"] == (1000).to_bytes(8, "little")
    assert found["sum"] == header.sum


def test_the_frame_in_hex_is_what_is_made():
    text = re.search(r"```\n(4a524e4c.*?)```", DOCUMENT, re.S)
    assert text is not None
    assert bytes.fromhex(text[1]) == sealed.seal(b"manifest", b"content", compress=False)


def test_a_segments_fields_stand_as_told():
    rows = [
        (int(at), int(size), name) for at, size, name, _ in rows_of("| at | bytes | row field |")
    ]
    found = [(at, kind.itemsize, name) for name, (kind, at) in SEGMENT_ROW.fields.items()]
    assert rows == found
    told = {name: (int(at), int(size))
            for at, size, name, _ in rows_of("| at | bytes | segment field |")}  # fmt: skip
    row = np.array([(8, 5, 2, 1, 512, 1024, NOTHING)], SEGMENT_ROW)
    head, data = Segment(7, row, memoryview(b"")).to_parts()
    content = sealed.unseal(b"seghead", head, "k", 1 << 20)
    values = {name: content[at : at + size] for name, (at, size) in told.items()}
    data_sum = xxhash.xxh3_128_digest(data[: sealed.HEADER_BYTES])
    assert values == {
        "base": (7).to_bytes(8, "little"), "count": (1).to_bytes(8, "little"),
        "data_bytes": bytes(8), "data_sum": data_sum,
    }  # fmt: skip
    assert content[sum(told["data_sum"]) :] == row.tobytes()
    assert f"1 to {ROWS_MOST:,} |" in DOCUMENT
    assert DATA_MOST == 1 << 30


def test_the_segment_in_hex_is_what_is_made():
    text = re.search(r"```\n(4a524e4c41524348 7365676865.*?)```", DOCUMENT, re.S)
    assert text is not None
    segment = Segment.parse(bytes.fromhex(text[1]), "k")
    assert segment.base == 7
    assert segment.rows[["seq", "kind", "offset", "length", "position"]].tolist() == [
        (8, 1, 4096, 5, 0), (9, 4, 0, 4, 5), (12, 6, 9, 0, 9),
    ]  # fmt: skip
    assert bytes(segment.data) == b"hellodone"
    assert segment.to_bytes(compress=False) == bytes.fromhex(text[1])


def test_a_tables_columns_stand_as_told():
    told = [(part, name, int(size)) for part, name, size, _ in rows_of("| of each | column |")]
    rows, chunks = np.zeros(2, ROW), np.zeros(1, CHUNK)
    rows["volume"], rows["offset"], rows["length"] = [1, 3], [4096, 65536], [100, 200]
    rows["chunk"], rows["skip"] = 0, [7, 9]
    chunks["hash"], chunks["position"], chunks["stored"] = np.arange(32), 64, 300
    chunks["length"] = 4000
    pack = Pack(5, 6, 364, b"0123456789abcdef")
    payload = sealed.unseal(b"table", Table(rows, chunks, [pack]).to_bytes(), "k", 1 << 20)
    assert payload[:24] == b"".join(n.to_bytes(8, "little") for n in (2, 1, 1))
    values = {
        ("row", "volume"): (1, 2), ("row", "offset"): (4096, 65536 - 4196),
        ("row", "length"): (100, 200), ("row", "chunk"): (0, 0), ("row", "skip"): (7, 9),
        ("chunk", "hash"): (int.from_bytes(bytes(range(32)), "little"),), ("chunk", "pack"): (0,),
        ("chunk", "position"): (64,), ("chunk", "stored"): (300,), ("chunk", "length"): (4000,),
        ("pack", "epoch"): (5,), ("pack", "number"): (6,), ("pack", "bytes"): (364,),
        ("pack", "sum"): (int.from_bytes(b"0123456789abcdef", "little"),),
    }  # fmt: skip
    wanted = b"".join(
        value.to_bytes(size, "little") for part, name, size in told for value in values[part, name]
    )
    assert payload[24:] == wanted


def test_the_numbers_in_the_text_are_those_of_the_code():
    assert PIECE_BYTES == 64 << 10
    assert f"more than\n  {PARTS_MOST} rows" in DOCUMENT
    assert f"{packs.PACK_BYTES >> 20} MiB of\nthem" in DOCUMENT
    assert pack_key(1, 2) == "pack/00000001-000000000002"
    assert preflight.FOLDER == "preflight/"
    assert tables.hash_of(b"").hex().startswith("e3b0c442")  # SHA-256


def test_a_manifest_says_what_is_told():
    told = {name for row in rows_of("| value | what it says |") for name in row[0].split("`, `")}
    segment = SegmentFacts(segment_key(2, 8, 9), 7, 8, 9, -1, 500, 200, 5, "ab")
    snapshot = SnapshotFacts(7, 4, snapshot_key(1, 7, 0), 300, "cd")
    origin = Origin("ef", [["data", 4096]], 65536, "both", "evict", "flush", 1)
    manifest = Manifest(3, 2, "12", "publish", 6, origin, 9, 5, [snapshot], [segment])
    said = json.loads(sealed.unseal(b"manifest", manifest.to_bytes(), "k", 1 << 20))
    assert said.keys() == told
    rows = {row[0]: row[1] for row in rows_of("| value | what it says |")}
    for value, facts in (("segments", segment), ("snapshots", snapshot)):
        names = re.findall(r"`(\w+)`", rows[value])
        assert names == [each.name for each in fields(facts)]
        assert said[value] == [[getattr(facts, name) for name in names]]
    assert re.findall(r"`(\w+)`", rows["kind"]) == [*KINDS]
    assert [each.name for each in fields(origin)] == re.findall(r"`(\w+)`", rows["store"])
    assert f"{LISTED} segments that a manifest names" in DOCUMENT
    assert f"after {NAMED_MOST}\nsegments another snapshot" in DOCUMENT


def test_a_list_holds_rows_of_segments():
    segments = [SegmentFacts(segment_key(2, k, k), k - 1, k, k, -1, 500, 200, k, "ab")
                for k in (1, 2)]  # fmt: skip
    facts, body = list_of(3, segments)
    said = json.loads(sealed.unseal(b"rows", body, "k", 1 << 20))
    assert said == [[getattr(each, field.name) for field in fields(each)] for each in segments]
    assert facts.key == "rows/00000003-00000000000000000001-00000000000000000002"
    assert (facts.base, facts.first, facts.last, facts.low) == (0, 1, 2, -1)
