"""How much a test tries: some in the usual run, more or all in the long one."""

from __future__ import annotations

import os

import pytest

# `make long SHARE=5` takes one in five of the largest samples: those that are of one thing, more of
# it, or of sequences of which shorter ones are taken whole.
SHARE = int(os.environ.get("JRNL_LONG_SHARE", "1"))


def more_in_long(name: str, usual: int, long: int) -> pytest.MarkDecorator:
    """Give a test the argument `name`: one amount by default, another one with `-m long`."""
    return pytest.mark.parametrize(name, [usual, pytest.param(long, marks=pytest.mark.long)])
