"""A fork with its history: the window of a store, entry by entry, as that of another one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jrnl._core import FORMAT
from jrnl.archive.replaying import Replayer
from jrnl.archive.segment import NOTHING, ROWS_MOST, SEGMENT_ROW, Segment
from jrnl.errors import InvalidArgument, PointExpired
from jrnl.fork import DIGEST_BYTES, check_outside, options_of
from jrnl.lineage import Lineage
from jrnl.pieces import runs_within
from jrnl.plan import AFTER
from jrnl.window import is_in_window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jrnl.fork import Wish
    from jrnl.recovery import Recovery
    from jrnl.sources import Path
    from jrnl.store import Store

_KINDS = FORMAT["kinds"]
_WRITE, _MARK, _REWIND = (_KINDS[name] for name in ("WRITE", "MARK", "REWIND"))
_SEGMENT_BYTES = 4 << 20


def fork_with_history(store: Store, path: Path | None, wish: Wish) -> Store:
    """Make a fork that has the window up to a state as its own; see `Store.fork`.

    The store's lock is held meanwhile.
    """
    engine, settings = store._engine, store._settings
    if wish.volumes is not None:
        raise InvalidArgument("a fork with its history has all volumes: leave volumes out")
    if path is not None:
        check_outside(path, settings.path)
    options = options_of(settings, wish.options, on_disk=path is not None)
    if options.get("images") == "after":  # nothing would lead back to these states
        if wish.options["images"] is not None:
            raise InvalidArgument(
                "with after-images alone a fork could not go back to its history: make it with "
                "images='both', or without history"
            )
        options["images"] = "both"
    if wish.options["journal"] is None:
        options["journal"] = _journal_of(store, options, on_disk=path is not None)
    with engine:
        engine.check_open()
        seq = engine.seq if wish.at is None else store._resolver.resolve(wish.at)
        if not is_in_window(store._catalog.snapshots, engine, seq):
            raise PointExpired(
                f"state {seq} is only in a snapshot now, and no entries lead there: fork it "
                "without its history"
            )
        oldest = store.window.oldest
        with store.recover(oldest, undoable=True) as shown, Replayer(
            path, seq=oldest, time_ns=engine.state_time(oldest), volumes=settings.sizes,
            marks=store._catalog.marks_at(oldest), lineage=_lineage(store, seq, path, wish),
            **options,
        ) as replayer:  # fmt: skip
            _fill(replayer, shown)
            for segment in _segments(store, shown, oldest, seq):
                replayer.apply(segment)
                if wish.progress is not None:
                    wish.progress(segment.last - oldest, seq - oldest)
            return replayer.finish()


def _journal_of(store: Store, options: dict[str, object], *, on_disk: bool) -> int:
    """Return how large a journal has to be that holds the same entries."""
    capacity = store._engine.capacity
    if options.get("images", "both" if on_disk else "before") == "both" and (
        store.options.images != "both"
    ):
        capacity *= 2  # two images of each
    if on_disk and not store._engine.on_disk:
        capacity += capacity // 2 + (1 << 20)  # frames and padding
    return capacity


def _lineage(store: Store, seq: int, path: Path | None, wish: Wish) -> Lineage:
    wanted = wish.digest
    if wanted is None:
        wanted = path is not None and sum(store._settings.sizes.values()) <= DIGEST_BYTES
    digest = store.digest(seq) if wanted else None
    return Lineage(store._engine.identity, seq, digest, seq)


def _fill(replayer: Replayer, shown: Recovery) -> None:
    """Put in the state with which the window begins."""
    for index in shown._indices.values():
        held = shown._held(index)
        for _, runs in runs_within(partial(shown._readinto, index), held):
            for offset, content in runs:
                replayer.fill(index, offset, content)


def _segments(store: Store, shown: Recovery, oldest: int, seq: int) -> Iterator[Segment]:
    """Yield the entries after the oldest state, up to `seq`, with what they wrote."""
    engine = store._engine
    entries = engine.entries(oldest + 1, seq)
    names = [*shown._indices]
    base = before = oldest
    rows = np.zeros(min(entries.size, ROWS_MOST), SEGMENT_ROW)
    data = bytearray()
    count = 0
    for entry in entries:
        row = rows[count]
        for name in entries.dtype.names or ():
            row[name] = entry[name]
        row["position"] = NOTHING
        number, kind = int(entry["seq"]), int(entry["kind"])
        if kind == _REWIND:
            row["position"] = before
        elif kind in (_WRITE, _MARK):
            row["position"] = len(data)
            if kind == _MARK or engine.images & AFTER:
                data += engine.image_bytes(number, True) or b""
            else:  # what it wrote is what the state after it shows
                shown.seek(number)
                place = names[int(entry["volume"])]
                data += shown.read(int(entry["offset"]), int(entry["length"]), place)
        before, count = number, count + 1
        if len(data) >= _SEGMENT_BYTES or count == rows.size:
            yield Segment(base, rows[:count].copy(), memoryview(bytes(data)))
            base, count = number, 0
            data.clear()
    if count:
        yield Segment(base, rows[:count].copy(), memoryview(bytes(data)))
