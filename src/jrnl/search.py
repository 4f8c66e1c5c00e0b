"""Searching states: the first one at which something is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


def first_bad(seqs: NDArray[np.int64], is_good: Callable[[int], bool]) -> int | None:
    """Return the first bad one of some states, by binary search; None where the last is good.

    It takes it that from there on all are bad. Where that is not so, the one that it finds is bad
    while the one before is good; or it is the first of all, which is looked at first.
    """
    if not is_good(int(seqs[0])):
        return int(seqs[0])
    if is_good(int(seqs[-1])):
        return None
    good, bad = 0, len(seqs) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_good(int(seqs[middle])):
            good = middle
        else:
            bad = middle
    return int(seqs[bad])


def bisect(
    check: object, seqs: Callable[[], NDArray[np.int64]], is_good: Callable[[int], bool]
) -> int:
    """Return the first bad state; `is_good` asks the caller's `check`. See `Store.bisect`."""
    if not callable(check):
        raise InvalidType(f"check must be callable, not {type(check).__name__}")
    there = seqs()
    if not there.size:
        raise InvalidArgument("there are no states in that range; states() has them all")
    found = first_bad(there, is_good)
    if found is None:
        raise InvalidArgument(
            f"the check holds at state {there[-1]}, the last one, so that there is none to find; "
            "look further, or turn it round: it is to be true at first"
        )
    return found
