"""Points as text: what a person writes, and what a store takes."""

from __future__ import annotations

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from jrnl.errors import InvalidArgument, UnknownPoint
from jrnl.points import looks_like_number, looks_like_time

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEQ_DIGITS = 20  # of 2**64 - 1
_SHOWN = 8  # names


def normal_point(text: str) -> str:
    """Return the text of a point that means the same anywhere: a time gets a zone.

    One that has none is of this process's time zone.

    Raises
    ------
    InvalidArgument
        A number that is no seq, a time that there is not, or nothing.
    """
    if not text:
        raise InvalidArgument("a point is a seq, the name of a mark or a snapshot, or a time")
    if _is_seq(text):
        return text
    if looks_like_number(text):
        raise InvalidArgument(f"a seq is written in plain digits, not as {text!r}")
    if not looks_like_time(text):
        return text
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(f"{text!r} is no time that can be counted from 1970") from error


def parse_text(text: str, known: Iterable[str] = ()) -> int | str | datetime:
    """Return a point for the text of one.

    Parameters
    ----------
    text : str
    known : iterable of str
        The names that there are.

    Raises
    ------
    InvalidArgument
    UnknownPoint
        A name that is not among these; it says which ones come close, or what there is.
    """
    text = normal_point(text)
    if _is_seq(text):
        return int(text)
    if looks_like_time(text):
        return datetime.fromisoformat(text)
    names = list(known)
    if text not in names:
        near = get_close_matches(text, names, n=3)
        told = f"did you mean {' or '.join(map(repr, near))}?"
        if not near:
            told = f"there is {', '.join(map(repr, names[:_SHOWN])) or 'none'}"
            told += f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
            told += "; a mark goes once its state has left the window"
        raise UnknownPoint(f"no mark or snapshot is called {text!r}; {told}")
    return text


def point_of(history: Any, text: str) -> int | str | datetime:
    """Return a point of a store, or of a log that is attached, for its text."""
    names = [*history.marks, *getattr(history, "snapshots", ())]
    return parse_text(text, names)


def _is_seq(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text.lstrip("0")) <= _SEQ_DIGITS
