"""What people read: sizes, times and points in their units; and what they write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import rich_click as click

from jrnl.control.points import normal_point
from jrnl.errors import JrnlError
from jrnl.sizes import parse_size

_STEPS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_TENTHS_BELOW = 100


def size_text(size_bytes: int) -> str:
    """Return a size as people say it: exact where that is short, else rounded."""
    for name, unit in _STEPS:
        if size_bytes >= unit:
            if size_bytes % unit == 0:
                return f"{size_bytes // unit:,} {name}"
            value = size_bytes / unit
            return f"{value:.1f} {name}" if value < _TENTHS_BELOW else f"{value:,.0f} {name}"
    return f"{size_bytes} byte{'' if size_bytes == 1 else 's'}"


def time_shown(text: str) -> str:
    """Return an ISO 8601 time in this process's zone, without it: a point, as it stands there."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None).isoformat()


def age_text(text: str) -> str:
    """Return how long ago an ISO 8601 time was."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    for name, unit in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count:,} {name}{'' if count == 1 else 's'} ago"
    return "just now" if seconds < 1 else f"{int(seconds)} s ago"


def count_text(count: int, noun: str) -> str:
    """Return a number of things."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


class _Parsed(click.ParamType):  # type: ignore[type-arg]  # of newer versions of click
    """A type of argument that jrnl itself parses."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what it means. Raises click's UsageError."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except JrnlError as error:
            self.fail(str(error), param, ctx)


def _parse_offset(text: str) -> int:
    return 0 if text.strip("0") == "" and text else parse_size(text, "offset")


SIZE = _Parsed("size", parse_size)
OFFSET = _Parsed("offset", _parse_offset)
PATH = click.Path(readable=False)  # what is wrong with one is said by who opens it
POINT = _Parsed("point", normal_point)
