"""The shipping store on a simulated disk: crash states, failing I/O, damage."""
