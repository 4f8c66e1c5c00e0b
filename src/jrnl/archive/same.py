"""Whether a store is what an archive leads to: of the same origin, and of no other history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jrnl._core import FORMAT
from jrnl.errors import InvalidArgument

if TYPE_CHECKING:
    from jrnl.archive.reader import Reader
    from jrnl.store import Store

_ZEROES, _REWIND = FORMAT["kinds"]["ZEROES"], FORMAT["kinds"]["REWIND"]


def check_same(store: Store, reader: Reader, path: str) -> bool:
    """Return whether the archive has a store's newest state; False: nothing tells any more.

    Raises InvalidArgument where it has another one: what only the store has would be lost.
    """
    origin, engine = reader.manifest.store, store._engine
    volumes = [[name, size] for name, size in store.options.volumes.items()]
    if volumes != origin.volumes:
        raise InvalidArgument(
            f"{path!r} has the volumes {_told(volumes)}, and those of {reader.objects.url} are "
            f"{_told(origin.volumes)}: it is of another store. Take another path"
        )
    with engine:
        seq, time_ns = engine.seq, engine.time_ns
    if seq > reader.manifest.seq:
        raise _other(path, reader, f"goes to state {seq}, and the archive to {reader.manifest.seq}")
    reader.reach(seq)
    known = [each.time_ns for each in reader.manifest.snapshots if each.seq == seq]
    mine = store.journal.between(seq, seq)
    if known and not mine.size and known[0] != time_ns:
        raise _other(path, reader, f"has another state {seq} than the archive")
    is_known = bool(known)
    for facts in reader.manifest.segments:
        if facts.first <= seq <= facts.last and mine.size:
            rows = reader.heads([facts])[0].rows
            k = int(np.searchsorted(rows["seq"], np.uint64(seq)))
            if int(rows["seq"][k]) == seq:
                same = _is_same(mine[0], rows[k])
            else:  # an entry that stands for those that the next one drops
                same = rows["kind"][k] == _REWIND
            if not same:
                raise _other(path, reader, f"has another entry {seq} than the archive")
            is_known = True
    return is_known


def _is_same(mine: Any, other: Any) -> bool:
    names = ["time_ns", "kind"]
    if int(mine["kind"]) <= _ZEROES:
        names += ["volume", "offset", "length"]
    return all(int(mine[name]) == int(other[name]) for name in names)


def _told(volumes: list[list[Any]]) -> str:
    return ", ".join(f"{name!r} of {size} bytes" for name, size in volumes)


def _other(path: str, reader: Reader, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path!r} {what}, {reader.objects.url}: it was written to, and what only it has would be "
        "lost. Move it away, and a new one is made"
    )
