"""What people read: sizes, times and points in their units; and what they write."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import rich_click as click

from jrnl.control.points import normal_point
from jrnl.errors import InvalidArgument, JrnlError
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


_SECONDS = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}


def _parse_duration(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d|)", text)
    if found is None:
        raise InvalidArgument(
            f"{text!r} is no duration: a number of seconds, or like 500ms, 5s, 15m, 12h, 30d"
        )
    return float(found[1]) * _SECONDS[found[2]]


def _parse_url(text: str) -> str:
    """Return an archive's address; a path means the same in any process."""
    if not text:
        raise InvalidArgument("an archive's address is s3://bucket/prefix, or a folder")
    return text if "://" in text else os.path.abspath(text)


DURATION = _Parsed("duration", _parse_duration)
URL = _Parsed("url", _parse_url)
SIZE = _Parsed("size", parse_size)
OFFSET = _Parsed("offset", _parse_offset)
PATH = click.Path(readable=False)  # what is wrong with one is said by who opens it
POINT = _Parsed("point", normal_point)
