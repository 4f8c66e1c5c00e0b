"""Benchmarks: jrnl against hand-written C loops and against what a user would pick instead.

`python -m bench` runs the cases and prints tables with ratios and targets; `pytest bench/` runs
them as plain pytest-benchmark cases. harness.py says how a case is measured.
"""
