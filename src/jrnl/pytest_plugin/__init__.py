"""What the pytest plugin does. pytest loads `_jrnl_pytest`, which takes from here what it needs.

lend      stores that are put back after each test
collect   a test for each crash state, or for all of them
apart     a test that failed on its state: shrunk, explained, kept
together  one test that goes through all states
"""
