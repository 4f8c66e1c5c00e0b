"""The record of a store in files: what its superblocks say, typed, and every value checked.

A superblock's checksum was right, but its writer need not be us.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from jrnl._core import FORMAT
from jrnl.errors import FormatError
from jrnl.lineage import Lineage
from jrnl.points import check_name
from jrnl.retention import LONGEST_NS, Limits, as_fraction, check_callback, parse_thresholds

if TYPE_CHECKING:
    from collections.abc import Callable


Document = dict[str, Any]

JOURNAL_MIN_BYTES = FORMAT["constants"]["JOURNAL_MIN_BYTES"]
_BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
_VOLUMES_MAX = FORMAT["constants"]["VOLUMES_MAX"]
_SIZE_MAX = 1 << 60
_LISTS = ("epochs", "aliases", "lost", "marks", "snapshots", "recoveries", "volumes")
_TRUTHS = ("clean", "lost_production")
_AFTER, _BOTH = 2, 3


@dataclass
class Row:
    """A row of one of the record's tables. What a later version has added to it stays in it."""

    @classmethod
    def of(cls, document: Document) -> Self:
        """Return the row that a document of it says."""
        known = {each.name for each in fields(cls)} - {"other"}
        given: Document = {name: value for name, value in document.items() if name in known}
        given["other"] = {name: value for name, value in document.items() if name not in known}
        return cls(**given)

    def document(self) -> Document:
        """Return it as a superblock has it: without what is as usual."""
        values = ((each, getattr(self, each.name)) for each in fields(self))
        said = {each.name: value for each, value in values if value != each.default}
        other = said.pop("other")
        return {**said, **other}


@dataclass
class SnapshotRow(Row):
    """A snapshot: of all volumes or of some, by index; being copied; being brought on to `fold`."""

    id: int
    name: str
    seq: int
    time_ns: int
    copying: bool = False
    volumes: list[int] | None = None
    pinned: bool = False
    fold: int | None = None
    other: Document = field(default_factory=dict)


@dataclass
class RecoveryRow(Row):
    """A recovery that is kept: its plan, the number of the copy that it started from."""

    id: int
    seq: int
    base: str
    base_seq: int
    copy: int
    route: str
    entries: int
    bytes: int
    undoable: bool = False
    version: int = 0  # of its patches
    volumes: list[int] | None = None
    other: Document = field(default_factory=dict)


@dataclass
class PreservedRow(Row):
    """A state of production that recoveries need: what follows `after` is in the log."""

    id: int
    seq: int
    after: int
    length: int
    volumes: list[int] | None = None
    lost: bool = False
    other: Document = field(default_factory=dict)


@dataclass
class RestoreRow(Row):
    """The intent to restore a recovery, from state `start` on."""

    recovery: int
    start: int
    volumes: list[int] | None = None
    other: Document = field(default_factory=dict)


@dataclass
class ParentRow(Lineage, Row):
    """What a fork was made of."""

    other: Document = field(default_factory=dict)


@dataclass(kw_only=True)
class Record:
    """All that the superblocks say; docs/format.md tells what each value means."""

    # What never changes.
    journal: int
    images: int
    overflow: str
    sync: str
    volumes: list[list[Any]]  # [name, bytes]
    created_ns: int
    reclaim: list[float] | None = None
    low: float | None = None
    parent: ParentRow | None = None
    # The log.
    tail: list[int]  # group, position, slot, seq, time_ns
    lost_production: bool = False
    durable_number: int = 1
    durable_seq: int = 0
    synced_seq: int = 0
    head: list[int] = field(default_factory=lambda: [1, 0, 0])  # group, position, slot
    index: list[int] = field(default_factory=lambda: [0, 1, 0])  # slot, group, position
    index_sum: int | None = None
    undo: int | None = None
    rewound: list[int] | None = None  # to, seq, time_ns, follows
    clean: bool = True
    newest: list[int] = field(default_factory=lambda: [0, 0])  # seq, time_ns
    epochs: list[list[int]] = field(default_factory=lambda: [[1, 1]])  # epoch, its first group
    # What rewinds have dropped, by the group of their REWIND: group, slot, follows, seq.
    drops: list[list[int]] | None = None  # None: an earlier version's
    aliases: list[list[int]] = field(default_factory=list)
    lost: list[list[int]] = field(default_factory=list)  # volume, offset, length
    # What there is by name or number.
    marks: list[list[Any]] = field(default_factory=list)
    snapshots: list[SnapshotRow] = field(default_factory=list)
    recoveries: list[RecoveryRow] = field(default_factory=list)
    restore: RestoreRow | None = None
    next_id: int = 1
    kept: list[PreservedRow] = field(default_factory=list)
    pins: list[list[Any]] = field(default_factory=list)
    retain: list[int] = field(default_factory=lambda: [0, 0])  # nanoseconds, at least and at most

    _tables: ClassVar[dict[str, type[Row]]] = {
        "snapshots": SnapshotRow, "recoveries": RecoveryRow, "kept": PreservedRow,
    }  # fmt: skip
    _optional: ClassVar[tuple[str, ...]] = ("reclaim", "low", "index_sum", "drops", "parent")

    @classmethod
    def of(cls, document: Document) -> Record:
        """Return what a document says, if a store may say all of it. Raises FormatError."""
        check(document)
        known = {each.name for each in fields(cls)}
        given = {name: value for name, value in document.items() if name in known}
        for name, kind in cls._tables.items():
            given[name] = [kind.of(row) for row in document.get(name, ())]
        if document["restore"] is not None:
            given["restore"] = RestoreRow.of(document["restore"])
        if "parent" in document:
            given["parent"] = ParentRow.of(document["parent"])
        return cls(**given)

    def document(self) -> Document:
        """Return it as a superblock has it."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in self._tables:
            said[name] = [row.document() for row in said[name]]
        said["restore"] = None if self.restore is None else self.restore.document()
        said["parent"] = None if self.parent is None else self.parent.document()
        for name in self._optional:
            if said[name] is None:
                del said[name]
        if not any(self.retain):
            del said["retain"]
        for name in ("kept", "pins"):
            if not said[name]:
                del said[name]
        return said

    def limits(self, on_low: Callable[..., object] | None) -> Limits:
        """Return when entries leave. Raises InvalidArgument, InvalidType."""
        check_callback(self.low, on_low)
        thresholds = None if self.reclaim is None else (self.reclaim[0], self.reclaim[1])
        return Limits(thresholds, self.low, on_low, *self.retain)

    def follow(self, state: Document) -> None:
        """Take over what the log says of itself (`Log.state`)."""
        head, tail, rewound = state["head"], state["tail"][0], state["rewound"]
        self._follow_epoch(state.pop("epoch"), head[0], tail)
        self._follow_rewind(rewound, head, tail)
        for name, value in state.items():
            setattr(self, name, value)

    def epoch_at(self, number: int) -> int:
        """Return the epoch under which a group was written, by its number."""
        return max((epoch for epoch, first in self.epochs if first <= number), default=0)

    def _follow_epoch(self, epoch: int, head: int, tail: int) -> None:
        """Let a new epoch begin at the group `head`; what tells of groups before `tail` goes."""
        if epoch > self.epochs[-1][0]:
            self.epochs = [pair for pair in self.epochs if pair[1] < head]
            self.epochs.append([epoch, head])
        while len(self.epochs) > 1 and self.epochs[1][1] <= tail:
            del self.epochs[0]

    def _follow_rewind(self, rewound: list[int] | None, head: list[int], tail: int) -> None:
        """Keep what a rewind has dropped until its entry leaves, or is dropped by a later one.

        The REWIND entry says it, too; but that, and what it dropped, may be damaged (R15).
        """
        drops = self.drops or []
        if rewound is not None and all(drop[3] != rewound[1] for drop in drops):
            _, seq, _, follows = rewound
            drops = [drop for drop in drops if drop[0] < head[0]]
            drops.append([head[0], head[2], follows, seq])
        elif rewound is None:
            drops = [drop for drop in drops if drop[0] < head[0]]
        self.drops = [drop for drop in drops if drop[0] >= tail]

    @property
    def volume_names(self) -> list[str]:
        """The volumes' names, in order."""
        return [name for name, _ in self.volumes]


def check(document: Document) -> None:
    """Raise FormatError where a document says what no store says."""
    checks: tuple[Callable[[Document], None], ...] = (
        _check_kinds, _check_options, _check_volumes, _check_positions, _check_tables,
        _check_intents, _check_copies, _check_preserved, _check_pins, _check_limits,
        _check_parent,
    )  # fmt: skip
    try:
        for each in checks:
            each(document)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"the superblock says what no store says: {error!r}") from error


def _numbers(values: Any, count: int | None = None) -> None:
    if not isinstance(values, list) or count not in (None, len(values)):
        raise TypeError(f"{values!r} is no list of {count} numbers")
    for value in values:
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise TypeError(f"{value!r} is no number")


def _check_kinds(document: Document) -> None:
    for key in _LISTS:
        if not isinstance(document[key], list):
            raise TypeError(f"{key} is no list")
    for key in _TRUTHS:
        if not isinstance(document[key], bool):
            raise TypeError(f"{key} is neither true nor false")


def _check_options(document: Document) -> None:
    _numbers([document["journal"]])
    if not JOURNAL_MIN_BYTES <= document["journal"] < _SIZE_MAX:
        raise ValueError("the journal's size")
    if document["images"] not in (_AFTER, _BOTH):
        raise ValueError("the images")
    if document["overflow"] not in ("evict", "fold", "refuse"):
        raise ValueError("overflow")
    if document["sync"] not in ("flush", "always"):
        raise ValueError("sync")


def _check_volumes(document: Document) -> None:
    volumes = document["volumes"]
    if not 0 < len(volumes) <= _VOLUMES_MAX:
        raise ValueError("the volumes")
    for name, size in volumes:
        check_name(name)
        if type(size) is not int or not 0 < size <= _SIZE_MAX:
            raise ValueError("a volume's size")
    if len({name for name, _ in volumes}) != len(volumes):
        raise ValueError("two volumes of one name")


def _check_positions(document: Document) -> None:
    _numbers([document[key] for key in ("durable_seq", "synced_seq", "durable_number", "next_id")])
    _numbers(document["tail"][:4], 4)
    _numbers(document["head"], 3)
    _numbers(document["index"], 3)
    for position in (document["tail"][1], document["head"][1], document["index"][2]):
        if position % _BLOCK:
            raise ValueError("a position in the log")
    if document["head"][0] < document["durable_number"]:
        raise ValueError("groups are durable that are not there")
    times = [document["created_ns"], document["tail"][4]]
    for time_ns in (*times, *(mark[2] for mark in document["marks"])):
        if type(time_ns) is not int or not -(1 << 63) <= time_ns < 1 << 63:
            raise TypeError("a time")


def _check_tables(document: Document) -> None:
    if not document["epochs"]:
        raise ValueError("no epochs")
    for pair in document["epochs"]:
        _numbers(pair, 2)
    for drop in document.get("drops", []):
        _numbers(drop, 4)
    total = document.get("index_sum", 0)
    if type(total) is not int or not 0 <= total < 1 << 64:
        raise ValueError("the index's sum")
    for run in (*document["aliases"], *document["lost"]):
        _numbers(run, 3)
    for volume, offset, length in document["lost"]:
        if offset + length > document["volumes"][volume][1] + _BLOCK:
            raise ValueError("a lost range")


def _check_intents(document: Document) -> None:
    if document["undo"] is not None:
        _numbers([document["undo"]])
    if document["rewound"] is not None:
        to, seq, time_ns, follows = document["rewound"]
        _numbers([to, seq, abs(time_ns), follows])
    if document["restore"] is not None:
        _numbers([document["restore"]["recovery"], document["restore"]["start"]])
        _check_indices(document, document["restore"].get("volumes", [0]))


def _check_pins(document: Document) -> None:
    pins = document.get("pins", [])
    if not isinstance(pins, list):
        raise TypeError("pins is no list")
    for name, seq, time_ns, *volumes in pins:
        check_name(name)
        _check_known(document, volumes)
        _numbers([seq])
        if type(time_ns) is not int or not -(1 << 63) <= time_ns < 1 << 63:
            raise TypeError("a time")
    if len({name for name, *_ in pins}) != len(pins):
        raise ValueError("two pins of one mark")


def _check_copies(document: Document) -> None:
    for name, seq, _, *volumes in document["marks"]:
        _check_known(document, volumes)
        check_name(name)
        _numbers([seq])
    for fact in document["snapshots"]:
        check_name(fact["name"])
        _numbers([fact["id"], fact["seq"]])
        if type(fact["time_ns"]) is not int:
            raise TypeError("a snapshot's time")
        if not isinstance(fact.get("copying", False), bool):
            raise TypeError("whether a snapshot is being copied")
        if "volumes" in fact:
            _check_covered(fact["volumes"], len(document["volumes"]))
        if type(fact.get("pinned", True)) is not bool:
            raise TypeError("a snapshot's pin")
        if "fold" in fact:
            _numbers([fact["fold"]])
            if fact["fold"] <= fact["seq"]:
                raise ValueError("a fold that leads nowhere")
            if document["overflow"] != "fold" or not {"copying", "volumes"}.isdisjoint(fact):
                raise ValueError("a fold into what is never folded")
    for fact in document["recoveries"]:
        _numbers([fact[key] for key in ("id", "seq", "base_seq", "copy", "entries", "bytes")])
        if not isinstance(fact["base"], str) or not isinstance(fact["route"], str):
            raise TypeError("a recovery's base")
        if not isinstance(fact.get("undoable", False), bool):
            raise TypeError("whether a recovery is undoable")
        _numbers([fact.get("version", 0)])
        _check_indices(document, fact.get("volumes", [0]))


def _check_parent(document: Document) -> None:
    if "parent" not in document:
        return
    fact = document["parent"]
    _numbers([fact["seq"], fact.get("state", 0)])
    if type(fact["key"]) is not int or not 0 <= fact["key"] < 1 << 64:
        raise ValueError("a parent's key")
    digest = fact.get("digest")
    if digest is not None and not re.fullmatch("[0-9a-f]{32}", digest):
        raise ValueError("a parent's digest")


def _check_preserved(document: Document) -> None:
    for fact in document.get("kept", []):
        _numbers([fact[key] for key in ("id", "seq", "after", "length")])
        if fact["length"] % _BLOCK:
            raise ValueError("a preserved state's length")
        if not isinstance(fact.get("lost", False), bool):
            raise TypeError("whether a preserved state is lost")
        _check_indices(document, fact.get("volumes", [0]))


def _check_known(document: Document, volumes: list[Any]) -> None:
    """Volumes by their names, any number of them."""
    if not {*volumes} <= {name for name, _ in document["volumes"]}:
        raise ValueError("a volume that there is not")


def _check_indices(document: Document, indices: Any) -> None:
    """Volumes by their indices, some of them."""
    _numbers(indices)
    if not indices or max(indices) >= len(document["volumes"]):
        raise ValueError("a volume that there is not")


def _check_covered(covered: Any, count: int) -> None:
    _numbers(covered)
    if not covered or sorted(set(covered)) != covered or covered[-1] >= count:
        raise ValueError("a snapshot's volumes")


def _check_limits(document: Document) -> None:
    if "reclaim" in document:
        parse_thresholds(document["reclaim"])
        if document["overflow"] == "refuse":
            raise ValueError("reclaim where nothing leaves")
    if "low" in document:
        as_fraction(document["low"], "low")
    for wanted in document.get("retain", ()):
        if type(wanted) is not int or not 0 <= wanted < LONGEST_NS:
            raise ValueError("a time to keep")
    if "retain" in document:
        least_ns, most_ns = document["retain"]
        if most_ns and least_ns > most_ns:
            raise ValueError("a time to keep")
