"""The shipping store on a simulated disk: crash states, failing I/O, damage."""

from jrnl import copier

copier.automatic = False  # each piece of a snapshot's copy is an operation of the bench
