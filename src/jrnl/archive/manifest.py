"""Manifests: what an archive holds, and for which state it is good. Each one is created once.

A manifest is JSON in a frame (`jrnl.archive.sealed`); docs/format.md tells what each value means.
It may come from anybody who can write to the bucket, so every value is checked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import xxhash

from jrnl.archive import sealed
from jrnl.errors import ArchiveError, CorruptionError, FormatError, JrnlError
from jrnl.options import IMAGES
from jrnl.points import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = 1
MOST_BYTES = 16 << 20
KINDS = ("claim", "publish", "collect", "promote")
PREFIX = "manifest/"

_KIND = b"manifest"
_NUMBER_MAX = (1 << 63) - 1
_SIZE_MAX = 1 << 60
_VOLUMES_MAX = 65535
_EPOCH_DIGITS, _DIGITS = 8, 20
_HEX = re.compile(r"[0-9a-f]{1,64}")
_KEYS = {
    "segment": re.compile(r"seg/[0-9]{8,}-[0-9]{20}-[0-9]{20}"),
    "snapshot": re.compile(r"snap/[0-9]{8,}-[0-9]{20}-[0-9]{4,}"),
    "list": re.compile(r"rows/[0-9]{8,}-[0-9]{20}-[0-9]{20}"),
    "any": re.compile(r"(?:seg|snap|pack|rows)/[0-9-]{1,80}"),
}


def sum_of(body: bytes) -> str:
    """Return the sum by which manifests and segments are told apart: XXH3-128, in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(body)


def manifest_key(n: int) -> str:
    """Return the key of manifest `n`; keys rise with it."""
    return f"{PREFIX}{n:0{_DIGITS}d}"


def number_of(key: str) -> int | None:
    """Return which manifest a key names; None for another object."""
    text = key.removeprefix(PREFIX)
    return int(text) if text != key and re.fullmatch(r"[0-9]{20}", text) else None


def segment_key(epoch: int, first: int, last: int) -> str:
    """Return the key of the segment with the entries `first` to `last`."""
    return f"seg/{epoch:0{_EPOCH_DIGITS}d}-{first:0{_DIGITS}d}-{last:0{_DIGITS}d}"


def list_key(epoch: int, first: int, last: int) -> str:
    """Return the key of a list of segments, which have the entries `first` to `last`."""
    return f"rows/{epoch:0{_EPOCH_DIGITS}d}-{first:0{_DIGITS}d}-{last:0{_DIGITS}d}"


def snapshot_key(epoch: int, seq: int, number: int) -> str:
    """Return the key of a snapshot's table: the `number`-th of its epoch."""
    return f"snap/{epoch:0{_EPOCH_DIGITS}d}-{seq:0{_DIGITS}d}-{number:04d}"


@dataclass(frozen=True)
class Origin:
    """The store that is archived.

    Attributes
    ----------
    key : str
        Its own, in hexadecimal digits.
    volumes : list of [name, bytes]
    journal : int
        Bytes.
    images, overflow, sync : str
    created_ns : int
    """

    key: str
    volumes: list[list[Any]]
    journal: int
    images: str
    overflow: str
    sync: str
    created_ns: int


@dataclass(frozen=True)
class SegmentFacts:
    """A segment as a manifest names it.

    Attributes
    ----------
    key : str
    base : int
        The state that it begins after.
    first, last : int
        The lowest and the highest seq in it.
    low : int
        The lowest state that one of its rewinds goes back to; -1: there is none.
    bytes, head_bytes : int
        Of the object, and of its first part, which lists the entries.
    time_ns : int
        Of its last entry.
    sum : str
        XXH3-128 of the object, in hexadecimal digits.
    """

    key: str
    base: int
    first: int
    last: int
    low: int
    bytes: int
    head_bytes: int
    time_ns: int
    sum: str


@dataclass(frozen=True)
class SnapshotFacts:
    """A snapshot as a manifest names it: its state, its table, and the time of the state."""

    seq: int
    time_ns: int
    key: str
    bytes: int
    sum: str


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes
    ----------
    n : int
        Manifests are numbered from 1 without a gap; the newest counts.
    epoch : int
        Who opens the archive for writing begins a new one.
    writer : str
        A random number of whoever wrote it, so that no two manifests are alike.
    kind : str
        Why it was written: one of `KINDS`.
    time_ns : int
        When, by the writer's clock.
    store : Origin
    seq, state_time_ns : int
        The newest state that is archived, and when it was made; -1: none is yet.
    snapshots : list of SnapshotFacts
        By seq. The oldest is the oldest state that can be had.
    segments : list of SegmentFacts
        By seq. Where one's `base` is not the last one's `last`, states between are missing.
    lists : list of SegmentFacts
        Objects that list the segments before these, so that no manifest grows with the history: a
        list's values are its segments' taken together. See `jrnl.archive.lists`.
    marks : dict of str to [seq, time_ns, entry, *volumes]
    condemned : list of str
        Keys that are deleted once this manifest is there; no later one names them.
    follows : str
        The `sum` of the one before it, so that it shows whether that was the one.
    sum : str
        XXH3-128 of the object itself, which does not say it.
    """

    n: int
    epoch: int
    writer: str
    kind: str
    time_ns: int
    store: Origin
    seq: int = -1
    state_time_ns: int = 0
    snapshots: list[SnapshotFacts] = field(default_factory=list)
    segments: list[SegmentFacts] = field(default_factory=list)
    lists: list[SegmentFacts] = field(default_factory=list)
    marks: dict[str, list[Any]] = field(default_factory=dict)
    condemned: list[str] = field(default_factory=list)
    follows: str = ""
    sum: str = field(default="", compare=False)

    def to_bytes(self) -> bytes:
        """Return the object. Raises ArchiveError where nobody would read it."""
        said = vars(self) | {"format": FORMAT, "flags": [], "store": vars(self.store)}
        del said["sum"]
        for name in ("segments", "lists", "snapshots"):
            said[name] = rows_of(getattr(self, name))
        payload = json.dumps(said, separators=(",", ":")).encode()
        if len(payload) > MOST_BYTES:
            raise ArchiveError(
                f"manifest {self.n} would have {len(payload)} bytes, and {MOST_BYTES} are read; it "
                f"names {len(self.marks)} marks and {len(self.snapshots)} snapshots: keep fewer "
                "(keep=)"
            )
        return sealed.seal(_KIND, payload)

    @classmethod
    def parse(cls, body: bytes, key: str) -> Self:
        """Return what an object says. Raises CorruptionError, FormatError."""
        payload = sealed.unseal(_KIND, body, key, MOST_BYTES)
        try:
            said = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"{key}: no JSON") from error
        try:
            found = cls._of(said, key)
        except FormatError:
            raise
        except (JrnlError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{key}: this is no manifest: {error}") from error
        if manifest_key(found.n) != key:
            raise FormatError(f"{key}: it says that it is manifest {found.n}")
        return replace(found, sum=sum_of(body))

    @classmethod
    def _of(cls, said: Any, key: str) -> Self:
        if said["format"] != FORMAT or said["flags"]:
            raise FormatError(
                f"{key}: format {said['format']!r} with the features {said['flags']!r}; this "
                f"version reads format {FORMAT} without any: use a newer one"
            )
        values = {each.name: said[each.name] for each in fields(cls) if each.name != "sum"}
        values["store"] = _origin(said["store"])
        values["segments"] = [segment_facts(row) for row in said["segments"]]
        values["lists"] = [segment_facts(row, "list") for row in said["lists"]]
        values["snapshots"] = [_snapshot(row) for row in said["snapshots"]]
        found = cls(**values)
        _check(found)
        return found

    def with_news(self, **changes: Any) -> Self:
        """Return the next one, which differs in these values."""
        changes = {"condemned": [], **changes}
        return replace(self, n=self.n + 1, follows=self.sum, sum="", **changes)

    def keys(self) -> Iterator[str]:
        """Yield each key that it names; lists name segments, and tables packs."""
        for segment in (*self.lists, *self.segments):
            yield segment.key
        for snapshot in self.snapshots:
            yield snapshot.key

    # Which way to a state.

    def way_to(self, seq: int) -> tuple[SnapshotFacts, list[SegmentFacts]] | None:
        """Return the newest snapshot from which segments lead to a state, and these; or None."""
        for snapshot in reversed(self.snapshots):
            if snapshot.seq <= seq:
                chain = self.way_from(snapshot, seq)
                if chain is not None:
                    return snapshot, chain
        return None

    def way_from(self, snapshot: SnapshotFacts, seq: int) -> list[SegmentFacts] | None:
        """Return the segments that lead from a snapshot to a later state; None: they do not."""
        chain = self.chain(snapshot.seq, seq)
        # A rewind to a state before the snapshot needs an older one.
        if chain is None or any(0 <= each.low < snapshot.seq for each in chain):
            return None
        return chain

    def chain(self, start: int, seq: int) -> list[SegmentFacts] | None:
        """Return the segments that lead from one state to another; None where one is missing."""
        found, at = [], start
        for segment in self.segments:
            if at >= seq:
                break
            if segment.last <= at:
                continue
            if segment.base > at:
                return None
            found.append(segment)
            at = segment.last
        return found if at >= seq else None

    def dropped_by(self, seq: int) -> list[SegmentFacts]:
        """Return the segments that may have a rewind that dropped a state."""
        return [each for each in self.segments if 0 <= each.low < seq < each.last]


def _number(value: Any, low: int = 0, high: int = _NUMBER_MAX) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} is not from {low} to {high}")
    return value


def _text(value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{value!r} is malformed")
    return value


def _origin(said: Any) -> Origin:
    found = Origin(**{each.name: said[each.name] for each in fields(Origin)})
    _text(found.key, _HEX)
    for each in (found.journal, found.created_ns):
        _number(each)
    if found.images not in IMAGES or found.images == "before":
        raise ValueError(f"images {found.images!r}")
    if found.overflow not in ("evict", "fold", "refuse") or found.sync not in ("flush", "always"):
        raise ValueError(f"overflow {found.overflow!r}, sync {found.sync!r}")
    if not 0 < len(found.volumes) <= _VOLUMES_MAX:
        raise ValueError("there are no volumes, or too many")
    for name, size in found.volumes:
        check_name(name)
        _number(size, 1, _SIZE_MAX)
    if len({name for name, _ in found.volumes}) != len(found.volumes):
        raise ValueError("two volumes have one name")
    return found


def rows_of(facts: Sequence[SegmentFacts | SnapshotFacts]) -> list[list[Any]]:
    """Return facts as JSON has them."""
    return [[*vars(each).values()] for each in facts]  # asdict takes twenty times as long


def segment_facts(row: Any, kind: str = "segment") -> SegmentFacts:
    """Return what a row says of a segment, or of a list. Raises ValueError, TypeError."""
    found = SegmentFacts(*row)
    _text(found.key, _KEYS[kind])
    _text(found.sum, _HEX)
    for each in (found.base, found.first, found.last, found.bytes, found.head_bytes):
        _number(each)
    _number(found.low, -1)
    _number(found.time_ns, -_NUMBER_MAX)
    if not found.base < found.first <= found.last or found.head_bytes > found.bytes:
        raise ValueError(f"segment {found.key}")
    return found


def _snapshot(row: Any) -> SnapshotFacts:
    found = SnapshotFacts(*row)
    _text(found.key, _KEYS["snapshot"])
    _text(found.sum, _HEX)
    _number(found.seq)
    _number(found.bytes)
    _number(found.time_ns, -_NUMBER_MAX)
    return found


def _check(found: Manifest) -> None:
    """Raise ValueError where values contradict each other."""
    _number(found.n, 1)
    _number(found.epoch, 1)
    _number(found.time_ns, -_NUMBER_MAX)
    _number(found.seq, -1)
    _number(found.state_time_ns, -_NUMBER_MAX)
    _text(found.writer, _HEX)
    _text(found.follows or "0", _HEX)
    if found.kind not in KINDS:
        raise ValueError(f"kind {found.kind!r}")
    _rising([each.last for each in (*found.lists, *found.segments)], found.seq)
    _rising([each.seq for each in found.snapshots], found.seq)
    for before, after in pairwise([*found.lists, *found.segments]):
        if after.base < before.last:
            raise ValueError("segments overlap")
    for name, row in found.marks.items():
        check_name(name)
        _number(row[0])
        _number(row[1], -_NUMBER_MAX)
        _number(row[2])
        for volume in row[3:]:
            check_name(volume)
    for key in found.condemned:
        _text(key, _KEYS["any"])


def _rising(seqs: list[int], most: int) -> None:
    if any(b <= a for a, b in pairwise(seqs)) or (seqs and seqs[-1] > most):
        raise ValueError("seqs do not rise, or go beyond what is archived")
