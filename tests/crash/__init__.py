"""The shipping store on a simulated disk: crash states, failing I/O, damage."""

from jrnl import Store, snapshot_copier

_drop = Store.__del__


def _lose(store):
    """Drop a store: one that loses its power is not closed, and nothing flushes it."""
    session = getattr(store, "_session", None)
    if session is not None and not session.engine.on_disk:
        _drop(store)


# For the whole process: whoever imports this has the same.
snapshot_copier.automatic = False  # each piece of a snapshot's copy is an operation of the bench
Store.__del__ = _lose
