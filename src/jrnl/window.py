"""The window: which states can be rebuilt now, and which snapshots the journal leads on from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from jrnl.compare import differences
from jrnl.errors import CorruptionError, PointExpired, UnknownPoint
from jrnl.plan import BEFORE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jrnl._core import Engine, Image
    from jrnl.snapshot import Snapshot

    Snapshots = Mapping[str, Snapshot]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WindowTime(NamedTuple):
    """When the oldest state of the window began, and when the newest entry was made."""

    oldest: datetime
    newest: datetime


def present_seq(engine: Engine, seq: int | None) -> int | None:
    """Return the seq under which a state is kept now, or None if the journal has let go of it."""
    try:
        return None if seq is None else engine.resolve(seq)
    except (PointExpired, UnknownPoint, CorruptionError):
        return None


def connected(snapshots: Snapshots, engine: Engine) -> list[tuple[int, Snapshot]]:
    """Return the snapshots of all volumes that the journal leads on from, and their states."""
    pairs = (
        (present_seq(engine, snapshot.seq), snapshot)
        for snapshot in snapshots.values()
        if snapshot._covers is None
    )
    return [(seq, snapshot) for seq, snapshot in pairs if seq is not None]


def oldest_state(snapshots: Snapshots, engine: Engine, base_seq: int, newest: int) -> int:
    """Return the window's oldest state where the entries base_seq + 1 .. newest are retained.

    With after-images alone that is the oldest snapshot whose later entries are all there.
    """
    if engine.images & BEFORE:
        return base_seq
    there = connected(snapshots, engine)
    kept = [seq for seq, _ in there if seq >= base_seq]
    if engine.folds and base_seq > engine.base_seq:  # before those entries leave, ...
        if any(seq < base_seq and not snapshot.pinned for seq, snapshot in there):
            kept.append(base_seq)  # ... the oldest snapshot is brought on over them
        elif not there:
            kept.append(max(base_seq, engine.seq))  # ... or one is taken
    return min(kept, default=newest)


def is_in_window(snapshots: Snapshots, engine: Engine, seq: int) -> bool:
    """Whether the state of a seq can be rebuilt now."""
    oldest = oldest_state(snapshots, engine, engine.base_seq, engine.seq)
    try:
        return seq >= oldest and engine.resolve(seq) >= 0
    except (PointExpired, UnknownPoint):
        return False
    except CorruptionError:  # whoever asks for the state will be told
        return True


def oldest_after(snapshots: Snapshots, image: Image, indices: list[int]) -> int:
    """Return the window's oldest state once these volumes of an image were restored."""
    engine = image.engine
    ranges, base_seq = differences(image, indices)
    newest = engine.seq + sum(offsets.size for offsets, _ in ranges.values())
    return oldest_state(snapshots, engine, base_seq, newest)


def window_time(engine: Engine, oldest: int) -> WindowTime:
    """Return when state `oldest` began, and when the newest entry was made."""
    return WindowTime(
        _as_datetime(engine.state_time(oldest)), _as_datetime(engine.state_time(engine.seq))
    )


def _as_datetime(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
