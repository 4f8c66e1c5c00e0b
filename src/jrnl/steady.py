"""Calls that take more than one look at the store: they look again where it has moved meanwhile.

A signal's handler, a finalizer or a callback may write between two steps of a call on its own
thread. What came in then came before the call, which begins again (I11).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from jrnl._core import Moved
from jrnl.errors import CorruptionError, PinnedPoint, PointExpired, UnknownPoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl._core import Engine

_T = TypeVar("_T")
Stamp = tuple[object, ...]
_TRIES_SECONDS = 0.25  # after that nothing may come in: then it gets StoreBusy


def steadily(engine: Engine, look: Callable[[], _T]) -> _T:
    """Return what ``look()`` finds while nothing moves. The caller holds the lock."""

    def checked(stamp: Stamp) -> _T:
        found = look()
        engine.check_stamp(stamp)
        return found

    return until_steady(engine, checked)


def until_steady(engine: Engine, attempt: Callable[[Stamp], _T]) -> _T:
    """Call ``attempt(stamp)`` until it does not raise Moved. The caller holds the lock.

    What else it raises counts only where nothing has moved since the stamp was taken.
    """
    until = None
    while until is None or time.monotonic() < until:
        stamp = engine.stamp
        try:
            return attempt(stamp)
        except (CorruptionError, PinnedPoint, PointExpired, UnknownPoint):
            if engine.stamp == stamp:
                raise
        except Moved:
            pass
        until = until or time.monotonic() + _TRIES_SECONDS
    with engine.exclusive():
        found = attempt(engine.stamp)
    return found
