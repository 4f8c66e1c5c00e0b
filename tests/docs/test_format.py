"""docs/format.md says what kernel/format.pxd says; its worked example is what the engine makes."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

import pytest
import xxhash

import jrnl
from jrnl._core import FORMAT
from tests.model.places import ROOT

PACKAGE = Path(jrnl.__file__).parent
DOCUMENT = (ROOT / "docs" / "format.md").read_text()
FORMAT_PXD = (ROOT / "src" / "jrnl" / "kernel" / "format.pxd").read_text()
CORE_PXD = (ROOT / "src" / "jrnl" / "kernel" / "structs.pxd").read_text()
HEADER_H = (PACKAGE / "include" / "jrnl.h").read_text()
TYPES = {"u64": "uint64_t", "i64": "int64_t", "u32": "uint32_t", "u16": "uint16_t", "u8": "uint8_t"}


def table(first_heading: str, *others: str) -> list[dict[str, str]]:
    """The rows of the table of docs/format.md that has these columns first."""
    start = "| " + " | ".join([first_heading, *others]) + " |"
    _, found, rest = DOCUMENT.partition(f"\n{start}")
    assert found, f"docs/format.md has no table that begins with {start}"
    lines = (start + rest).split("\n\n")[0].splitlines()
    columns, _, *rows = [[cell.strip(" `") for cell in line[1:-1].split("|")] for line in lines]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def numbers(rows: list[dict[str, str]], name: str, value: str = "value") -> dict[str, int]:
    return {row[name]: int(row[value]) for row in rows}


def enum_of(source: str, name: str) -> dict[str, int]:
    """The members of a C or Cython enum, whose values are all written out."""
    body = re.search(rf"enum {name}\b\s*[:{{]\n(.*?)\n(?:}}|\n)", source, re.DOTALL)
    assert body is not None
    return {key: int(value) for key, value in re.findall(r"^\s+(\w+) = (-?\d+)", body[1], re.M)}


def test_every_constant_is_documented_with_its_value():
    assert numbers(table("constant", "value"), "constant") == FORMAT["constants"]


def test_every_kind_is_documented_with_its_value():
    assert numbers(table("kind", "value"), "kind") == FORMAT["kinds"]
    assert {kind.name: kind.value for kind in jrnl.Kind} == FORMAT["kinds"]


def test_every_flag_is_documented_with_its_value():
    assert numbers(table("flag", "value"), "flag") == FORMAT["flags"]


def test_every_header_field_is_documented_where_the_compiler_puts_it():
    rows = table("offset", "size", "field")
    sizes = dict(FORMAT["header_sizes"])
    total = sizes.pop("EntryHeader")
    assert numbers(rows, "field", "offset") == FORMAT["header_offsets"]
    assert numbers(rows, "field", "size") == sizes
    struct = FORMAT_PXD.partition("cdef struct EntryHeader:\n")[2].partition("\n\n")[0]
    declared = {field: kind for kind, field in re.findall(r"^    (\w+) (\w+)", struct, re.M)}
    assert {row["field"]: TYPES[row["type"]] for row in rows} == declared
    assert sum(sizes.values()) == total == FORMAT["constants"]["HEADER_BYTES"]


def test_the_described_numbers_are_all_that_the_format_file_has():
    named = set(re.findall(r"^    ([A-Z_]+) = ", FORMAT_PXD, re.M))
    described = {
        *FORMAT["constants"],
        *(f"KIND_{name}" for name in FORMAT["kinds"]),
        *(f"FLAG_{name}" for name in FORMAT["flags"]),
    }
    assert named == described


def test_the_documented_limits_follow_from_the_constants():
    fixed = FORMAT["constants"]
    for row in table("capacity", "slots"):
        capacity, slots, area, longest, both, piece = map(int, row.values())
        assert slots == capacity // fixed["HEADER_SHARE"] // fixed["HEADER_BYTES"]
        rest = capacity - slots * fixed["HEADER_BYTES"]
        assert area == rest - rest % fixed["IMAGE_ALIGN"]
        assert longest == area // 2 - area // 2 % fixed["IMAGE_ALIGN"]
        assert both == area // 4 - area // 4 % fixed["IMAGE_ALIGN"]
        pieces = min(area // fixed["PIECE_SHARE"], fixed["PIECE_MAX_BYTES"])
        assert piece == pieces - pieces % 512


@pytest.mark.parametrize("row", table("capacity", "slots"), ids=lambda row: row["capacity"])
def test_the_engine_has_the_documented_limits(row):
    capacity, _, _, longest, both, piece = map(int, row.values())
    with jrnl.create(size="256MiB", journal=capacity, overflow="refuse") as store:
        with pytest.raises(jrnl.EntryTooLarge):
            store.volume.write(0, bytes(longest + 1))
        assert store.volume.write(0, bytes(longest)) == 1
        store.volume.discard(1 << 27, 2 * piece)
        assert store.journal.entries["length"].tolist() == [longest, piece, piece]
    with jrnl.create(size="256MiB", journal=capacity, images="both") as store:
        with pytest.raises(jrnl.EntryTooLarge):
            store.volume.write(0, bytes(both + 1))
        assert store.volume.write(0, bytes(both)) == 1


@pytest.mark.parametrize("row", table("capacity", "slots")[:3], ids=lambda row: row["capacity"])
def test_a_journal_holds_as_many_entries_as_the_documented_slots(row):
    capacity, slots, area = [int(row[key]) for key in ("capacity", "slots", "image area")]
    with jrnl.create(size="1MiB", journal=capacity) as store:
        for _ in range(slots + 1):
            store.volume.write(0, b"one")
        assert store.window == (1, slots + 1)
        assert len(store.journal.entries) == slots
    with jrnl.create(size="1MiB", journal=capacity, overflow="refuse") as store:
        longest = 4096
        for _ in range(area // longest):
            store.volume.write(0, bytes(longest))
        store.volume.write(0, bytes(area % longest))
        with pytest.raises(jrnl.JournalFull):
            store.volume.write(0, b"one")


@pytest.fixture
def example():
    """The names that the worked example's code leaves behind."""
    names: dict[str, object] = {}
    exec(DOCUMENT.partition("```python\n")[2].partition("```")[0], names)
    yield names
    names["store"].close()


def test_the_worked_example_shows_the_header_that_its_code_makes(example):
    dump = re.findall(r"^([0-3]0)  ((?:[0-9a-f]{2} ?){16})$", DOCUMENT, re.M)
    assert [int(place, 16) for place, _ in dump] == [0, 16, 32, 48]
    shown = bytes.fromhex(" ".join(line for _, line in dump))
    assert example["store"]._engine._header_bytes(example["seq"]) == shown


def test_the_worked_example_is_explained_byte_by_byte(example):
    header = example["store"]._engine._header_bytes(example["seq"])
    rows = table("bytes", "hex", "field", "value")
    places = count()
    for row in rows:
        first, _, last = row["bytes"].partition(" to ")
        offset, size = int(first), int(last or first) + 1 - int(first)
        assert [next(places) for _ in range(size)] == list(range(offset, offset + size))
        assert offset == FORMAT["header_offsets"][row["field"]]
        assert size == FORMAT["header_sizes"][row["field"]]
        assert header[offset : offset + size] == bytes.fromhex(row["hex"])
        assert int.from_bytes(header[offset : offset + size], "little") == int(row["value"])
    assert next(places) == len(header)


def test_the_worked_example_has_the_sums_that_the_text_says(example):
    store, seq = example["store"], example["seq"]
    header = store._engine._header_bytes(seq)
    before, after = (row["bytes"].encode() for row in table("position", "image", "bytes"))
    assert (store.journal.before(seq), store.journal.after(seq)) == (before, after)
    sums = [int.from_bytes(header[place : place + 8], "little") for place in (40, 48, 56)]
    assert sums == [
        xxhash.xxh3_64_intdigest(before),
        xxhash.xxh3_64_intdigest(after),
        xxhash.xxh3_64_intdigest(header[:56], 2),
    ]
    assert f'"{store["log"].read(4096, 19).decode()}"' in DOCUMENT


def test_an_unsummed_entry_has_no_sums(example):
    with jrnl.create(size="1MiB", checksum=False) as store:
        header = store._engine._header_bytes(store.volume.write(0, b"data"))
    assert header[40:] == bytes(24)
    assert not header[39] & FORMAT["flags"]["SUMMED"]


def test_a_header_that_is_not_retained_is_not_shown():
    with jrnl.create(size="1MiB", journal="16KiB") as store:
        for _ in range(40):
            store.volume.write(0, b"data")
        for seq in (0, 1, 41):
            with pytest.raises(LookupError):
                store._engine._header_bytes(seq)


def test_the_codes_for_c_callers_are_those_of_the_core():
    core = enum_of(CORE_PXD, "Status")
    for_c = enum_of(HEADER_H, "jrnl_status")
    assert len(core) > 10
    only_python = {"E_CLOSED", "E_EDIT", "E_DISAGREE"}  # what no call of the header can meet
    assert for_c == {f"JRNL_{name}": core[name] for name in core.keys() - only_python}


def test_the_image_flags_for_c_callers_are_those_of_the_core():
    core = enum_of(CORE_PXD, "Images")
    for_c = enum_of(HEADER_H, "jrnl_flags")
    assert for_c["JRNL_BEFORE"] == core["IMAGES_BEFORE"] == FORMAT["flags"]["BEFORE"]
    assert for_c["JRNL_AFTER"] == core["IMAGES_AFTER"] == FORMAT["flags"]["AFTER"]
    assert core["IMAGES_BOTH"] == core["IMAGES_BEFORE"] | core["IMAGES_AFTER"]
