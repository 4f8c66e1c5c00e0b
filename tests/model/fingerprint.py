"""What a store holds, in a form that two moments can be compared by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jrnl


def fingerprint(store: jrnl.Store) -> dict[str, object]:
    """All that a user can see of a store, production's bytes and the journal's included."""
    return {
        "digest": store.digest(),
        "seq": store.seq,
        "window": store.window,
        "used": store.journal.used,
        "entries": store.journal.entries.tobytes(),
        "marks": dict(store.marks),
        "snapshots": {name: (taken.seq, taken.time_ns) for name, taken in store.snapshots.items()},
    }


@contextmanager
def unchanged(store: jrnl.Store) -> Iterator[None]:
    """Check that the block changes nothing."""
    before = fingerprint(store)
    yield
    after = fingerprint(store)
    assert after == before
