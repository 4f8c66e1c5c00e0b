"""The axis that pictures share: time where it tells something, else the seq; and how sizes read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.errors import InvalidArgument
from jrnl.heat import Axis, as_axis, edges_of
from jrnl.plot.source import REWIND, Told

Ints = NDArray[np.int64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_KIB = 1024
_TIME_UNITS = (  # from a span of so many nanoseconds on
    (0, 1, "ns"),
    (2_000, 1_000, "µs"),
    (2_000_000, 1_000_000, "ms"),
    (2 * 10**9, 10**9, "s"),
    (120 * 10**9, 60 * 10**9, "min"),
    (7200 * 10**9, 3600 * 10**9, "h"),
    (2 * 86400 * 10**9, 86400 * 10**9, "d"),
)


class Scale(NamedTuple):
    """Where things stand on the axis.

    Attributes
    ----------
    kind : {"time", "seq"}
    low, high : int
        The first and last value: nanoseconds since 1970, or seqs.
    at : ndarray
        int64: that of each entry.
    seqs : ndarray
        int64: of which seqs these are, to find states between them.
    """

    kind: Axis
    low: int
    high: int
    at: Ints
    seqs: Ints

    def of_state(self, seq: int) -> int:
        """Return where a state begins: at its entry, or the last one before."""
        if self.kind == "seq":
            return min(max(seq, self.low), self.high)
        k = int(np.searchsorted(self.seqs, seq, "right")) - 1
        return int(self.at[max(k, 0)]) if self.at.size else self.low

    def of(self, seq: int, time_ns: int | None) -> int:
        """Return where something named stands."""
        if self.kind == "seq" or time_ns is None:
            return self.of_state(seq)
        return min(max(time_ns, self.low), self.high)

    @property
    def unit(self) -> tuple[int, str]:
        """What a value is divided by, and how that is called."""
        if self.kind == "seq":
            return 1, "seq"
        span = self.high - self.low
        return next((by, name) for least, by, name in reversed(_TIME_UNITS) if span >= least)

    def shown(self, value: int) -> float:
        """Return a value as the axis shows it: a seq, or the time since the first entry."""
        return float(value) if self.kind == "seq" else (value - self.low) / self.unit[0]

    @property
    def label(self) -> str:
        """What the axis is of."""
        if self.kind == "seq":
            return "seq"
        return f"time since {as_text(self.low)} ({self.unit[1]})"

    def edges(self, most: int) -> Ints:
        """Return the edges of at most so many equal parts; by seq, each of whole entries."""
        whole = self.high - self.low + 1
        if self.kind == "seq":
            step = -(-whole // most)
            return self.low + step * np.arange(-(-whole // step) + 1, dtype=np.int64)
        return edges_of(min(most, whole), np.array([self.low, self.high], np.int64))

    def bounds(self, edges: Ints) -> tuple[float, float]:
        """Return where the parts begin and end on the axis; a seq stands in the middle of s."""
        first, last = (self.shown(edge) for edge in edges[[0, -1]].tolist())
        return (first - 0.5, last - 0.5) if self.kind == "seq" else (first, last)

    def span(self, edges: Ints) -> str:
        """Say how long one part is."""
        if self.kind == "seq":
            entries = int(edges[1] - edges[0])
            return "1 entry" if entries == 1 else f"{entries:,} entries"
        length = float(edges[-1] - edges[0]) / (edges.size - 1)
        by, name = next((b, n) for _, b, n in reversed(_TIME_UNITS) if length >= b or b == 1)
        return f"{length / by:.3g} {name}"


def scale_of(told: Told, by: object = None) -> Scale:
    """Choose the axis: by default time, or the seq where there is none or it stands still.

    Raises InvalidArgument where a log is to be shown by time.
    """
    axis = as_axis(by, "seq" if told.time_ns is None else "time")
    times = told.time_ns
    if axis == "time" and times is None:
        raise InvalidArgument(f"{told.name}: a log has no times; take by='seq'")
    if axis == "time" and times is not None and times.size and times[0] < times[-1]:
        return Scale("time", int(times[0]), int(times[-1]), times, told.seq)
    low = int(told.seq[0]) if told.seq.size else told.since
    return Scale("seq", low, max(told.until, low), told.seq, told.seq)


def rewound(told: Told, scale: Scale) -> list[tuple[int, int]]:
    """Return the parts of the axis whose states a rewind has dropped."""
    rows = np.flatnonzero(told.kind == REWIND)
    pairs = zip(told.offset[rows].tolist(), told.seq[rows].tolist(), strict=True)
    return [(scale.of_state(to), scale.of_state(seq)) for to, seq in pairs]


def as_text(time_ns: int) -> str:
    """Return a time as people write it, in UTC."""
    try:
        moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return f"{time_ns} ns after 1970"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"


def as_size(count: float) -> str:
    """Return a number of bytes as people read it: three or four digits and a unit."""
    power = 0
    while abs(count) >= _KIB and power < len(_UNITS) - 1:
        count /= _KIB
        power += 1
    return f"{round(count, 2):.4g} {_UNITS[power]}"
