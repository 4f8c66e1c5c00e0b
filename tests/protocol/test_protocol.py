"""The protocol loses nothing, and would be seen to: every crash of many small lives.

`docs/durability.md` tells what is proven here. The file stores follow it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocol.bench import Plan
from tests.protocol.disk import SECTOR, Change, Disk, crash_choices
from tests.protocol.switches import DIRECTED, SWITCHES, hunt, total

SHORT = [
    Plan(seed, images, states=3, inner=1, lives=2, length=25)
    for seed, images in ((1, "both"), (2, "both"), (3, "after"))
]
LONG = {
    images: [Plan(seed, images, states=6, inner=1) for seed in range(100, 100 + seeds)]
    for images, seeds in (("both", 14), ("after", 7))
}


def test_no_crash_loses_anything(capsys):
    counts = total(SHORT)
    with capsys.disabled():
        print(f"\n  crash states of the protocol: {dict(counts)}")
    assert counts["distinct"] > 1000


@pytest.mark.long
@pytest.mark.parametrize("images", LONG)
def test_no_crash_of_long_lives_loses_anything(images, capsys):
    counts = total(LONG[images])
    with capsys.disabled():
        print(f"\n  crash states of the protocol: {dict(counts)}")
    assert counts["distinct"] > 10_000


@pytest.mark.parametrize("name", SWITCHES)
def test_a_missing_rule_is_noticed(name):
    assert hunt(name), f"nothing notices that {SWITCHES[name].what}"


@pytest.mark.parametrize("name", DIRECTED)
def test_the_directed_cases_hold_with_every_rule(name):
    assert DIRECTED[name]() is None


def test_the_page_lists_every_switch():
    page = (Path(__file__).parents[2] / "docs" / "durability.md").read_text()
    assert "Not in the toy" in page
    missing = [n for n, s in SWITCHES.items() if f"| `{n}` | {s.rule} | {s.what} |" not in page]
    assert not missing


def test_the_order_oracle_notices_by_itself():
    failure = hunt("writeback_active", order=True)
    assert "order: volume sector" in str(failure)


def test_the_disk_keeps_what_is_synced_and_may_lose_the_rest():
    disk = Disk()
    disk.create("f")
    disk.write("f", 0, b"a" * SECTOR)
    disk.sync("f")
    disk.sync()
    disk.write("f", 0, b"b" * SECTOR)
    found = {disk.crashed(choice).read("f")[:1] for choice in crash_choices(disk.changes, 4, 0, 0)}
    assert found == {b"a", b"b", b"\0", bytes([ord("b") ^ 0xA5])}
    disk.sync("f")
    assert disk.crashed(()).read("f") == b"b" * SECTOR


def test_all_subsets_of_few_changes_and_chosen_ones_of_many():
    sectors = [Change(1, "sector", i, bytes(SECTOR)) for i in range(20)]
    few = [c for c in crash_choices(sectors[:4], 12, 0, 0) if set(c) <= {"new", "old"}]
    assert len(set(few)) == 16
    many = set(crash_choices(sectors, 12, 8, 0))
    assert ("new",) * 5 + ("old",) * 15 in many
    assert ("old",) * 19 + ("new",) in many
    assert list(crash_choices(sectors, 12, 8, 0)) == list(crash_choices(sectors, 12, 8, 0))


@pytest.mark.parametrize("mode", ["keep", "revert"])
def test_after_a_failed_sync_a_second_one_saves_nothing(mode):
    disk = Disk()
    disk.create("f")
    disk.write("f", 0, b"a" * SECTOR)
    disk.sync("f")
    disk.write("f", 0, b"b" * SECTOR)
    disk.fail = (disk.syncs, mode)
    with pytest.raises(OSError, match="sync failed"):
        disk.sync("f")
    disk.sync("f")
    assert disk.read("f")[:1] == (b"b" if mode == "keep" else b"a")
    assert disk.read("f", direct=True)[:1] == b"a"
