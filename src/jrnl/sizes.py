"""Sizes as people write them, ints and flags."""

from __future__ import annotations

import re
from operator import index
from typing import SupportsIndex, cast

import numpy as np

from jrnl.errors import InvalidArgument, InvalidType, shown

_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"([0-9]+) ?([A-Za-z]*)", re.ASCII)
_LIMIT = 2**63

Size = int | str


def as_int(value: object, expected: str) -> int:
    """Return `value` as an int, which neither a bool nor a float is.

    Raises
    ------
    InvalidType
        Its message is `expected` and then what `value` is instead.
    """
    try:
        if isinstance(value, bool):
            raise TypeError("a bool is no number here")
        return index(cast(SupportsIndex, value))
    except TypeError as error:
        raise InvalidType(f"{expected}, not {type(value).__name__}") from error


def check_callable(value: object, name: str) -> None:
    """Raise InvalidType where the argument `name` is neither None nor callable."""
    if value is not None and not callable(value):
        raise InvalidType(f"{name} must be callable, not {type(value).__name__}")


def as_flag(value: object, what: str) -> bool:
    """Return `value` as a bool, where it is one or numpy's. Raises InvalidType."""
    if value is True or value is False:
        return value
    if not isinstance(value, bool | np.bool_):
        raise InvalidType(f"{what} must be True or False, not {type(value).__name__}")
    return bool(value)


def parse_size(size: Size, what: str = "size") -> int:
    """Turn a size into bytes.

    Parameters
    ----------
    size : int or str
        Bytes, or a whole number with B, KiB, MiB, GiB or TiB behind it; plain digits are bytes.
    what : str
        The argument's name, for the message.

    Returns
    -------
    int
        From 1 to 2**63 - 1.

    Raises
    ------
    InvalidArgument
        Not such a text, or out of that range.
    InvalidType
        Neither int nor str.
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size.strip())
        if match is None or match[2] not in _UNITS:
            raise InvalidArgument(
                f"{what} {size!r} is not a size; write bytes as an int, or like "
                "'512B', '64KiB', '64MiB', '1GiB', '1TiB'"
            )
        number = int(match[1].lstrip("0")[:40] or "0") * _UNITS[match[2]]
    else:
        number = as_int(size, f"{what} must be an int (bytes) or a str like '64MiB'")
    if not 0 < number < _LIMIT:
        raise InvalidArgument(f"{what} {shown(size)} is not between 1 byte and 2**63 - 1")
    return number
