"""How much a test tries: some in the usual run, more or all in the long one."""

from __future__ import annotations

import pytest


def more_in_long(name: str, usual: int, long: int) -> pytest.MarkDecorator:
    """Give a test the argument `name`: one amount by default, another one with `-m long`."""
    return pytest.mark.parametrize(name, [usual, pytest.param(long, marks=pytest.mark.long)])
