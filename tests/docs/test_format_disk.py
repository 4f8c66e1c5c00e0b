"""What docs/format.md says of the files of a store is what the files hold."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

import jrnl
from jrnl._core import FORMAT
from jrnl.disk import superblock
from tests.docs.test_format import DOCUMENT, FORMAT_PXD, table

KEY = 0x0123456789ABCDEF
BLOCK = 4096
EXAMPLE = DOCUMENT.partition("## A store in hex")[2]
HEX = r"^`([\w.]+)` at (\d+):\n\n```\n(.*?)```"


def xxh(data: bytes, seed: int = 0) -> int:
    return xxhash.xxh3_64_intdigest(data, seed)


def u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def document_of(data: bytes) -> dict[str, object]:
    return json.loads(data[64 : 64 + u64(data, 40)])


@pytest.fixture
def example(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of the example in hex, while its store is open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secrets.randbits", lambda _: KEY)
    names: dict[str, object] = {}
    exec(EXAMPLE.partition("```python\n")[2].partition("```")[0], names)
    yield tmp_path / "example.jrnl"
    names["store"].close()


def test_the_files_hold_the_documented_bytes(example):
    found = re.findall(HEX, EXAMPLE, re.M | re.DOTALL)
    assert [name for name, _, _ in found] == ["super.0", "log", "log", "log"]
    for name, start, text in found:
        data = (example / name).read_bytes()
        right = []
        for line in text.splitlines():
            place, _, digits = line.partition("  ")
            length = len(bytes.fromhex(digits))
            right.append(f"{place}  {data[int(place, 16) :][:length].hex(' ')}")
        assert int(text.split()[0], 16) == int(start)
        assert text.splitlines() == right, f"{name} at {start} is now:\n" + "\n".join(right)


def test_the_superblock_says_the_documented_document(example):
    written = json.loads(EXAMPLE.partition("```json\n")[2].partition("```")[0])
    data = (example / "super.0").read_bytes()
    assert document_of(data) == written
    assert (u64(data, 24), u64(data, 32)) == (2, KEY)
    assert f"the length of the document, {u64(data, 40)}" in EXAMPLE.replace("\n", " ")


def test_every_key_of_the_document_is_described(example):
    described = [row["key"] for row in table("key", "is", "meaning")]
    assert sorted(described) == sorted(document_of((example / "super.0").read_bytes()))


def test_every_optional_key_of_the_document_is_described(tmp_path):
    plain, rich = tmp_path / "plain", tmp_path / "rich"
    jrnl.create(plain, size=4096, journal="64KiB").close()
    with jrnl.create(rich, size=4096, journal="64KiB", reclaim=(0.5, 0.25), low=0.1,
                     keep_at_least=1, keep_at_most=2) as store:  # fmt: skip
        store.mark("kept", pinned=True)
        recovery = store.recover("kept")  # open, so that it is kept
        assert recovery.base == "production"
    forked = tmp_path / "forked"
    with jrnl.open(rich) as store:
        store.fork(forked).close()
    usual, more, child = (
        document_of((path / "super.0").read_bytes()) for path in (plain, rich, forked)
    )
    described = [row["optional key"] for row in table("optional key", "is", "meaning")]
    assert sorted(described) == sorted((more | child).keys() - usual.keys())
    assert [pin[:2] for pin in more["pins"]] == [["kept", 1]]
    assert (more["reclaim"], more["low"]) == ([0.5, 0.25], 0.1)
    assert more["retain"] == [10**9, 2 * 10**9]


def test_the_fields_of_a_group_are_where_the_compiler_puts_them(example):
    struct_ = FORMAT_PXD.partition("cdef struct GroupHeader:\n")[2].partition("\n\n")[0]
    fields = re.findall(r"^    uint64_t (\w+)", struct_, re.M)
    rows = table("offset", "group field")
    assert [(int(row["offset"]), row["group field"]) for row in rows] == [
        (8 * k, field) for k, field in enumerate(fields)
    ]
    assert 8 * len(fields) - 8 == FORMAT["constants"]["GROUP_SUMMED_BYTES"]
    data = (example / "log").read_bytes()[BLOCK:]
    shown = table("bytes", "group field", "value")
    assert [(row["group field"], int(row["value"])) for row in shown] == [
        (field, u64(data, 8 * k)) for k, field in enumerate(fields)
    ]


def test_the_superblock_has_the_documented_layout(example):
    rows = table("offset", "size", "what", "type")
    end = 0
    for row in rows[:-1]:
        assert int(row["offset"]) == end
        end += int(row["size"])
    assert int(rows[-1]["offset"]) == end == 64
    for copy in (0, 1):
        data = (example / f"super.{copy}").read_bytes()
        assert struct.unpack_from("<8sIIII", data) == (b"jrnlsupr", 1, 0, 0, copy)
        assert u64(data, 56) == xxh(data[64 : 64 + u64(data, 40)], xxh(data[:56]))
        assert len(data) == 1 << 20


def test_heads_and_groups_have_the_documented_sums(example):
    for name, magic in (("log", b"jrnl-log"), ("index", b"jrnlindx")):
        head = (example / name).read_bytes()[:BLOCK]
        assert struct.unpack_from("<8sQQQ", head) == (magic, KEY, 65536, 128)
        assert u64(head, 32) == xxh(head[:32])
        assert head[40:] == bytes(BLOCK - 40)
    group = (example / "log").read_bytes()[BLOCK : 2 * BLOCK]
    assert u64(group, 120) == xxh(group[:120], xxh(struct.pack("<4Q", KEY, 2, 1, 0)))
    assert u64(group, 96) == xxh(group[128:256])
    for slot in (0, 1):
        header = group[128 + 64 * slot :][:64]
        assert u64(header, 56) == xxh(header[:56], KEY + slot)
    assert (u64(group, 168), u64(group, 176)) == (xxh(b"\xaa" * 512), xxh(group[1024:1536]))


def test_a_group_of_many_entries_has_the_others_behind_its_images(tmp_path):
    with jrnl.create(tmp_path / "s", size="64KiB", journal="256KiB") as store:
        for k in range(9):
            store.volume.write(512 * k, bytes([k + 1]) * 512)
        store.flush()
        group = (tmp_path / "s" / "log").read_bytes()[BLOCK:]
        assert (u64(group, 104), u64(group, 40)) == (10, 512 + 9 * 1024 - 2 * 512)
        others = group[u64(group, 40) :][: 4 * 64]
        assert u64(group, 96) == xxh(others, xxh(group[128:512]))
        assert [u64(others, 64 * k) for k in range(4)] == [7, 8, 9, 10]
        assert group[u64(group, 40) + 256 : u64(group, 32)].strip(b"\0") == b""


def test_the_index_holds_the_headers_of_the_log(tmp_path):
    with jrnl.create(tmp_path / "s", size="64KiB", journal="64KiB") as store:
        store.volume.write(0, b"one")
        store.flush()
        headers = [store._engine._header_bytes(seq) for seq in (1, 2)]
    index = (tmp_path / "s" / "index").read_bytes()
    assert len(index) == BLOCK + 128 * 64
    assert index[BLOCK : BLOCK + 128] == b"".join(headers)
    assert [header[39] & 64 for header in headers] == [64, 0]


def test_copies_and_patches_have_the_documented_sums(tmp_path):
    folder = tmp_path / "s"
    size = 512 * BLOCK + 100
    with jrnl.create(folder, volumes={"a": 5000, "b": size}, journal="64KiB") as store:
        store["a"].write(4990, b"0123456789")
        store["b"].write(size - 4, b"tail")
        store.snapshot("early")
        store["b"].write(4090, b"later")
        recovery = store.recover(store.seq, base="early")
        assert recovery.plan.route == "forward"
    document = document_of((folder / "super.0").read_bytes())
    key = u64((folder / "super.0").read_bytes(), 32)
    number = document["snapshots"][0]["id"]
    seed = xxh(number.to_bytes(8, "little"), key)
    for volume, length in ((0, 5000), (1, size)):
        image = (folder / f"snapshot-{number}-{volume}.img").read_bytes()
        sums = (folder / f"snapshot-{number}-{volume}.sums").read_bytes()
        assert len(image) == length
        assert len(sums) == -(-length // (511 * BLOCK)) * BLOCK
        for block in range(len(sums) // BLOCK):
            part = sums[block * BLOCK :][:BLOCK]
            covered = image[block * 511 * BLOCK :][: 511 * BLOCK]
            if not covered.strip(b"\0"):
                assert part == bytes(BLOCK)
                continue
            assert u64(part, 4088) == xxh(part[:4088], seed ^ volume << 48 ^ block)
            for k in range(0, len(covered), BLOCK):
                assert u64(part, k // BLOCK * 8) == xxh(covered[k : k + BLOCK])
    (fact,) = document["recoveries"]
    assert set(fact) == {"id", "seq", "base", "base_seq", "copy", "route", "entries", "bytes"}
    assert (fact["copy"], fact["base"]) == (number, "early")
    check_patches((folder / f"recovery-{fact['id']}.patches").read_bytes(), fact["id"], key)


def test_kept_states_have_the_documented_bytes(tmp_path):
    folder = tmp_path / "s"
    size = 300 * BLOCK + 100
    with jrnl.create(folder, volumes={"a": 5000, "b": size}, journal="256KiB") as store:
        store["a"].write(0, b"first" * 1000)
        store["b"].write(0, b"\1" * 50000)
        states = [store[name].read(0, store[name].size) for name in "ab"]
        recovery = store.recover(1)
        recovery.restore()
        for k in range(400):
            store["ab"[k % 2]].write(k * 400 % 4000, bytes([k % 256]) * 900)
            store["b"].write(size - 100 - k % 290 * BLOCK, bytes([k % 256]) * 90)
    raw = (folder / "super.0").read_bytes()
    document, key = document_of(raw), u64(raw, 32)
    (fact,) = document["kept"]
    assert set(fact) == {"id", "seq", "after", "length"}
    assert fact["id"] == document["recoveries"][0]["copy"]
    assert fact["seq"] == document["recoveries"][0]["base_seq"] == 2
    assert fact["after"] == 2
    seed = xxh(fact["id"].to_bytes(8, "little"), key)
    data = (folder / f"production-{fact['id']}.kept").read_bytes()
    at, found, batches = 0, set(), 0
    while at < fact["length"]:
        head = data[at : at + BLOCK]
        magic, position, count = struct.unpack_from("<8sQQ", head)
        assert (magic, position) == (b"jrnlkept", at)
        assert 1 <= count <= 254
        assert u64(head, 4088) == xxh(head[:4088], seed ^ at)
        assert head[24 + 16 * count : 4088] == bytes(4064 - 16 * count)
        for k in range(count):
            place, own = struct.unpack_from("<QQ", head, 24 + 16 * k)
            volume, block = place - 1 >> 48, place - 1 & (1 << 48) - 1
            content = data[at + (k + 1) * BLOCK :][:BLOCK]
            assert own == xxh(content)
            wanted = states[volume][block * BLOCK :][:BLOCK].ljust(BLOCK, b"\0")
            assert content == wanted
            found.add((volume, block))
        at, batches = at + (count + 1) * BLOCK, batches + 1
    assert batches > 1
    assert {(0, 0), (0, 1), (1, 0), (1, 300)} <= found


def check_patches(data: bytes, number: int, key: int) -> None:
    seed = xxh(number.to_bytes(8, "little"), key)
    magic, count, total, table_sum, content_sum, own = struct.unpack_from("<8s5Q", data)
    rows, content = data[48 : 48 + 24 * count], data[48 + 24 * count :]
    assert (magic, own) == (b"jrnlptch", xxh(data[:40], seed))
    assert (table_sum, content_sum) == (xxh(rows, seed), xxh(content, seed))
    columns = struct.unpack(f"<{3 * count}q", rows)
    assert len(content) == total == sum(columns[2 * count :])
    assert set(columns[:count]) == {1}
    assert b"later" in content


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("data", "data.img"),
        ("A_b-9", "A_b-9.img"),
        ("x" * 64, "x" * 64 + ".img"),
        ("x" * 65, "volume-0.img"),
        ("été", "volume-0.img"),
        ("a b", "volume-0.img"),
        ("snapshot-1", "volume-0.img"),
        ("recovery-1", "volume-0.img"),
        ("volume-7", "volume-0.img"),
    ],
)
def test_a_volumes_file_has_its_name_where_that_is_plain(tmp_path, name, file):
    with jrnl.create(tmp_path / "s", volumes={name: 512}, journal="64KiB"):
        there = {path.name for path in (tmp_path / "s").iterdir()}
    assert there == {file, "log", "index", "super.0", "super.1"}


def set_features(folder: Path, version: int, incompatible: int, compatible: int) -> None:
    for copy in (0, 1):
        path = folder / f"super.{copy}"
        data = bytearray(path.read_bytes())
        struct.pack_into("<III", data, 8, version, incompatible, compatible)
        body = bytes(data[64 : 64 + u64(data, 40)])
        struct.pack_into("<Q", data, 56, xxh(body, xxh(bytes(data[:56]))))
        path.write_bytes(data)


@pytest.mark.parametrize(("version", "bit"), [(2, 0), (1, 1), (1, 1 << 31)])
def test_a_newer_version_or_an_unknown_incompatible_feature_is_refused(tmp_path, version, bit):
    jrnl.create(tmp_path / "s", size=512, journal="64KiB").close()
    set_features(tmp_path / "s", version, bit, 0)
    for mode in ("r", "r+"):
        with pytest.raises(jrnl.FormatError, match="newer version"):
            jrnl.open(tmp_path / "s", mode)
    set_features(tmp_path / "s", 1, 0, 0)
    jrnl.open(tmp_path / "s").close()


def test_an_unknown_compatible_feature_opens_for_reading_only(tmp_path):
    jrnl.create(tmp_path / "s", size=512, journal="64KiB").close()
    set_features(tmp_path / "s", 1, 0, 4)
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(jrnl.ReadOnlyStore, match="mode='r'"):
        jrnl.open(tmp_path / "s")
    with jrnl.open(tmp_path / "s", "r") as store:
        assert store.volume.read(0, 512) == bytes(512)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before
    assert (superblock.INCOMPATIBLE, superblock.READ_COMPATIBLE, superblock.FORMAT) == (0, 0, 1)
