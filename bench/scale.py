"""What ten thousand archives in one bucket take in a year: requests, bytes, money.

Computed from the code's own constants and from manifests that it makes; nothing is measured by a
clock, so that the figures of docs/scale.md, which quotes what this prints, can be held to it.

    python -m bench.scale [--update-docs]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from jrnl.archive.chunks import PIECE_BYTES
from jrnl.archive.collector import GRACE_SECONDS
from jrnl.archive.lists import LISTED, NAMED_MOST
from jrnl.archive.manifest import (
    Manifest,
    Origin,
    SegmentFacts,
    SnapshotFacts,
    segment_key,
    snapshot_key,
)
from jrnl.archive.packs import PACK_BYTES
from jrnl.archive.writer import SEGMENT_BYTES, SNAPSHOT_BYTES
from jrnl.errors import ArchiveError

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- scale:begin -->\n", "<!-- scale:end -->\n"
GB, TB = 10**9, 10**12
DAY_SECONDS, YEAR_DAYS = 86400, 365
STORES = 10_000
CONTENT_BYTES = 100 * GB  # of one store: a petabyte in all
LISTED_AT_ONCE = 1000  # keys that one request lists
COLLECTIONS = 24  # a day
ROW_BYTES = 22 + 52  # of a row and a chunk, which hardly compress: most of it is a hash
TABLE = CONTENT_BYTES // PIECE_BYTES * ROW_BYTES
HEAD_BYTES = 1000  # of a segment: its rows, and frames

# What a store that speaks S3 asks for, in dollars: Amazon's list prices, us-east-1, 2025.
PUT_PRICE, GET_PRICE = 0.005 / 1000, 0.0004 / 1000  # a list costs what a put does
STORAGE_PRICE = 0.021 / GB  # a month, of what is beyond 500 TB
PREFIX_PUTS, PREFIX_GETS = 3500, 5500  # a second, that one prefix takes


@dataclass(frozen=True)
class Load:
    """How one store is written to.

    Parameters
    ----------
    name : str
    day_bytes : int
        Written in a day.
    active_seconds : int
        Of a day, in which something becomes durable.
    interval : float
        Seconds between two manifests, of `Store.archive`.
    keep_days : int
        How long states stay.
    """

    name: str
    day_bytes: int
    active_seconds: int
    interval: float = 1.0
    keep_days: int = 30


@dataclass(frozen=True)
class Day:
    """What one store asks for in a day, once it has states of `keep_days`."""

    puts: float
    lists: float
    gets: float
    sent_bytes: float
    held_bytes: float  # segments, snapshots, tables
    manifest_bytes: int  # of one
    manifests_held_bytes: float
    objects: float
    segments: float
    snapshots: float


def day_of(load: Load) -> Day:
    """Return what a store asks for in a day."""
    publishes = load.active_seconds / load.interval
    segments = max(publishes, load.day_bytes / SEGMENT_BYTES)
    sent = load.day_bytes + HEAD_BYTES * segments
    snapshots = max(sent / max(SNAPSHOT_BYTES, TABLE / 4), segments / NAMED_MOST)
    packs = load.day_bytes / PACK_BYTES  # each byte is in one snapshot, too, if nothing rewrites it
    lists = segments / LISTED
    one = manifest_bytes(int(lists * load.keep_days), int(snapshots * load.keep_days) + 1)
    held = segments + snapshots + packs + lists
    manifests = publishes * GRACE_SECONDS / DAY_SECONDS
    objects = held * load.keep_days + CONTENT_BYTES / PACK_BYTES + manifests
    return Day(
        puts=segments + publishes + snapshots + packs + lists,
        lists=publishes + COLLECTIONS * (objects / LISTED_AT_ONCE + 4),
        gets=publishes + lists + snapshots + COLLECTIONS,  # the collector's: each of them once
        sent_bytes=sent + load.day_bytes + snapshots * TABLE + publishes * one,
        held_bytes=(sent + load.day_bytes + snapshots * TABLE) * load.keep_days + CONTENT_BYTES,
        manifest_bytes=one,
        manifests_held_bytes=manifests * one,
        objects=objects,
        segments=segments,
        snapshots=snapshots,
    )


@cache
def manifest_bytes(lists: int, snapshots: int) -> int:
    """Return the length of a manifest in the middle between two lists, made and rounded."""
    rng = random.Random(12)
    second = 10**9

    def facts(k: int) -> SegmentFacts:
        first, last = 40 * k + 1, 40 * (k + 1)
        return SegmentFacts(
            segment_key(1, first, last), first - 1, first, last, -1, rng.randrange(11000, 15000),
            rng.randrange(900, 1200), (1_764_000_000 + k) * second + rng.randrange(second),
            f"{rng.getrandbits(128):032x}",
        )  # fmt: skip

    named = [facts(k) for k in range(lists + NAMED_MOST - LISTED // 2)]
    made = Manifest(
        1, 1, f"{rng.getrandbits(128):032x}", "publish", 1_764_000_000 * second,
        Origin("0123456789abcdef", [["data", CONTENT_BYTES]], 1 << 30, "both", "evict", "flush",
               1_764_000_000 * second),
        seq=40 * len(named), segments=named[lists:], lists=named[:lists],
        snapshots=[SnapshotFacts(k, k * second, snapshot_key(1, k, k), 90_000_000,
                                 f"{rng.getrandbits(128):032x}") for k in range(snapshots)],
    )  # fmt: skip
    return round(len(made.to_bytes()), -3)


def year_cost(day: Day, stores: int = STORES) -> tuple[float, float]:
    """Return dollars a year: requests, and storage of what is held once it is full."""
    asked = (day.puts + day.lists) * PUT_PRICE + day.gets * GET_PRICE
    held = (day.held_bytes + day.manifests_held_bytes) * STORAGE_PRICE * 12
    return asked * YEAR_DAYS * stores, held * stores


LOADS = [
    Load("quiet: 10 MB in 100 flushes", 10 * 10**6, 100),
    Load("working hours: 1 GB in 8 h", GB, 8 * 3600),
    Load("never still: 1 GB in 24 h", GB, DAY_SECONDS),
    Load("never still, every 60 s", GB, DAY_SECONDS, interval=60),
    Load("heavy: 50 GB in 24 h", 50 * GB, DAY_SECONDS),
]


def report() -> Iterator[str]:
    """Yield the lines that docs/scale.md quotes."""
    days = [(load.name, day_of(load)) for load in LOADS]
    yield _row("one store, a day", "puts", "lists", "gets", "manifest", "sent", "objects")
    for name, day in days:
        asked = (f"{each:,.0f}" for each in (day.puts, day.lists, day.gets))
        sizes = _bytes(day.manifest_bytes), _bytes(day.sent_bytes)
        yield _row(name, *asked, *sizes, f"{day.objects:,.0f}")
    yield ""
    yield _row("ten thousand, a year", "requests", "a second", "for these", "storage", "held")
    for name, day in days:
        asking, holding = year_cost(day)
        total = (day.puts + day.lists + day.gets) * STORES
        held = (day.held_bytes + day.manifests_held_bytes) * STORES
        yield _row(name, f"{total * YEAR_DAYS / 1e9:,.1f} G", f"{total / DAY_SECONDS:,.0f}",
                   _dollars(asking), _dollars(holding), _bytes(held))  # fmt: skip
    yield ""
    yield _row("a manifest, after", "a day", "30 days", "a year")
    for load in LOADS:
        yield _row(load.name, *(_manifest_after(load, days) for days in (1, 30, 365)))
    yield ""
    yield _row("opening the newest state", "segments", "table")
    for name, day in days:
        yield _row(name, f"{day.segments / day.snapshots / 2:,.0f}", _bytes(TABLE))


def _manifest_after(load: Load, days: int) -> str:
    try:
        return _bytes(day_of(replace(load, keep_days=days)).manifest_bytes)
    except ArchiveError:  # it would be longer than what is read
        return "refused"


def _row(name: str, *cells: str) -> str:
    return f"{name:<28}" + "".join(f"{cell:>11}" for cell in cells)


def update_page() -> None:
    """Write what is quoted into the page."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{quoted()}{END}{rest.split(END)[1]}")


def quoted() -> str:
    """Return what stands between the two marks of the page."""
    return "\n```\n" + "\n".join(report()) + "\n```\n\n"


def _bytes(count: float) -> str:
    for name, unit in (("PB", 10**15), ("TB", TB), ("GB", GB), ("MB", 10**6), ("kB", 1000)):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def _dollars(amount: float) -> str:
    return f"${amount / 1000:,.0f} k" if amount >= 10_000 else f"${amount:,.0f}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--update-docs"]:
        update_page()
    print("\n".join(report()))
