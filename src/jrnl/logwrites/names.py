"""From a mark's text in a log to a name that a mark may have."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from contextlib import suppress

from jrnl.errors import NameTaken
from jrnl.points import NAME_MAX_BYTES, PRODUCTION, looks_like_number, looks_like_time


def name_mark(text: str, repeats: dict[str, int], take: Callable[[str], object]) -> None:
    """Have `take` take a free name made from `text`; `repeats` says how often one was tried.

    It raises NameTaken where a name is not free.
    """
    name = _valid_name(text)
    while True:
        number = repeats[name] = repeats.get(name, 0) + 1
        suffix = f"-{number}" if number > 1 else ""
        with suppress(NameTaken):
            take(_valid_name(_cut(name, NAME_MAX_BYTES - len(suffix)) + suffix))
            return


def _valid_name(text: str) -> str:
    """Make a valid name from any text."""
    name = "".join(
        "_" if char in "/@\ufffd" or unicodedata.category(char) == "Cc" else char for char in text
    )
    name = _cut(name, NAME_MAX_BYTES) or "mark"
    if name == PRODUCTION or looks_like_number(name) or looks_like_time(name):
        name = _cut(f"mark-{name}", NAME_MAX_BYTES)
    return name


def _cut(text: str, length_bytes: int) -> str:
    return text.encode()[:length_bytes].decode("utf-8", "ignore")
