"""Limits: when the oldest entries leave the journal beside its being full, and who is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from jrnl.errors import InvalidArgument, InvalidType
from jrnl.sizes import check_callable

if TYPE_CHECKING:
    from jrnl._core import Engine

Duration = timedelta | float
LONGEST_NS = 1 << 62
_PAIR = 2
_SECOND_NS = 1_000_000_000


class Limits(NamedTuple):
    """What `create` was given about this.

    Attributes
    ----------
    reclaim : (float, float) or None
        Fractions of the journal: where reclaiming starts, and where it stops.
    low : float or None
        The fraction of free room below which `on_low` is called.
    on_low : callable or None
    least_ns, most_ns : int
        What is younger stays, what is older leaves; 0 for no such rule.
    """

    reclaim: tuple[float, float] | None = None
    low: float | None = None
    on_low: Callable[..., object] | None = None
    least_ns: int = 0
    most_ns: int = 0


def parse_limits(
    *,
    overflow: str,
    reclaim: tuple[float, float] | None = None,
    low: float | None = None,
    on_low: Callable[..., object] | None = None,
    keep_at_least: Duration | None = None,
    keep_at_most: Duration | None = None,
) -> Limits:
    """Check what `create` was given. Raises InvalidArgument, InvalidType."""
    if reclaim is not None:
        if overflow == "refuse":
            raise InvalidArgument(
                "reclaim lets the oldest entries go, and overflow='refuse' keeps them: pass one"
            )
        reclaim = parse_thresholds(reclaim)
    if low is not None:
        low = as_fraction(low, "low")
    check_callback(low, on_low)
    return Limits(reclaim, low, on_low, *parse_retention(keep_at_least, keep_at_most))


def parse_thresholds(reclaim: object) -> tuple[float, float]:
    """Return where reclaiming starts and stops. Raises InvalidArgument, InvalidType."""
    if not isinstance(reclaim, tuple | list) or len(reclaim) != _PAIR:
        raise InvalidType(f"reclaim must be two fractions, (start, stop), not {reclaim!r}")
    start, stop = (as_fraction(part, "reclaim") for part in reclaim)
    if stop > start:
        raise InvalidArgument(f"reclaim must stop at or below its start, not {reclaim!r}")
    return start, stop


def as_fraction(value: object, what: str) -> float:
    """Return `value` if it is above 0 and at most 1. Raises InvalidArgument, InvalidType."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidType(f"{what} takes fractions of the journal, not {type(value).__name__}")
    if not 0 < value <= 1:
        raise InvalidArgument(f"{what} takes fractions above 0 and up to 1, not {value!r}")
    return float(value)


def check_callback(low: float | None, on_low: object) -> None:
    """Raise InvalidType, InvalidArgument where nobody could be called, or nothing calls."""
    check_callable(on_low, "on_low")
    if on_low is not None and low is None:
        raise InvalidArgument("on_low needs low, the fraction of free room that is low")


def parse_retention(at_least: Duration | None, at_most: Duration | None) -> tuple[int, int]:
    """Return both durations in nanoseconds, 0 for None. Raises InvalidArgument, InvalidType."""
    least_ns, most_ns = as_nanoseconds(at_least), as_nanoseconds(at_most)
    if most_ns and least_ns > most_ns:
        raise InvalidArgument(
            f"what is kept for at least {at_least!r} cannot be let go after {at_most!r}"
        )
    return least_ns, most_ns


def as_nanoseconds(duration: Duration | None) -> int:
    """Return a duration in nanoseconds; 0 for None. Raises InvalidArgument, InvalidType."""
    if duration is None:
        return 0
    if isinstance(duration, timedelta):
        wanted = duration // timedelta(microseconds=1) * 1000
    elif isinstance(duration, bool) or not isinstance(duration, int | float):
        raise InvalidType(
            f"a duration is a timedelta or a number of seconds, not {type(duration).__name__}"
        )
    elif not math.isfinite(duration):
        raise InvalidArgument(f"{duration!r} is no number of seconds")
    else:
        wanted = int(duration * _SECOND_NS)
    if not 0 < wanted < LONGEST_NS:
        raise InvalidArgument(f"a duration is above 0 and at most 146 years, not {duration!r}")
    return wanted


def apply(engine: Engine, limits: Limits, store: object) -> None:
    """Have the engine follow the limits; what is called back holds the store weakly."""
    slots, area = engine.ring_size
    if limits.reclaim is not None:
        starts, stops = ((int(slots * part), int(area * part)) for part in limits.reclaim)
        engine.set_thresholds(starts, stops)
    if limits.low is not None and limits.on_low is not None:
        used = 1 - limits.low
        engine.set_low(int(slots * used), int(area * used),
                       partial(_call, ref(store), limits.on_low))  # fmt: skip
    if limits.least_ns or limits.most_ns:
        engine.set_retention(limits.least_ns, limits.most_ns)


def _call(store: ref[object], on_low: Callable[..., object]) -> None:
    found = store()
    if found is not None:
        on_low(found)
