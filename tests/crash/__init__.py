"""The shipping store on a simulated disk: crash states, failing I/O, damage."""

from jrnl import Store, snapshot_copier

snapshot_copier.automatic = False  # each piece of a snapshot's copy is an operation of the bench
Store.__del__ = lambda _: None  # a store that loses its power is not closed, and nothing flushes it
