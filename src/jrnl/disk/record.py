"""What a superblock's document must say: its checksum was right, its writer need not be us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jrnl._core import FORMAT
from jrnl.errors import FormatError
from jrnl.points import check_name
from jrnl.retention import check_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.disk.superblock import Document

JOURNAL_MIN_BYTES = FORMAT["constants"]["JOURNAL_MIN_BYTES"]
_BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
_VOLUMES_MAX = FORMAT["constants"]["VOLUMES_MAX"]
_SIZE_MAX = 1 << 60
_LISTS = ("epochs", "aliases", "lost", "marks", "snapshots", "recoveries", "volumes")
_TRUTHS = ("clean", "lost_production")
_AFTER, _BOTH = 2, 3


def checked(document: Document) -> Document:
    """Return the document if every value is one that a store writes. Raises FormatError."""
    checks: tuple[Callable[[Document], None], ...] = (
        _check_kinds, _check_options, _check_volumes, _check_positions, _check_tables,
        _check_intents, _check_copies, _check_kept, _check_pins, check_limits,
    )  # fmt: skip
    try:
        for check in checks:
            check(document)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"the superblock says what no store says: {error!r}") from error
    return document


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


def _check_kept(document: Document) -> None:
    for fact in document.get("kept", []):
        _numbers([fact[key] for key in ("id", "seq", "after", "length")])
        if fact["length"] % _BLOCK:
            raise ValueError("a kept state's length")
        if not isinstance(fact.get("lost", False), bool):
            raise TypeError("whether a kept state is lost")
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
