"""Points: what a user names a state by. This module parses; resolving takes the store's tables."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, SupportsIndex

from jrnl.errors import InvalidArgument, InvalidType
from jrnl.sizes import as_int

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_MAX_BYTES = 255
PRODUCTION = "production"  # what a base is called that is no snapshot
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POINT_KINDS = (
    "a seq (int), the name of a mark or snapshot, a Mark, a Snapshot or an aware datetime"
)
_DIGITS = r"\d(?:_?\d)*"
_SEQ = re.compile(r"[0-9]{1,20}")
_NUMBER = re.compile(
    rf"""\s* [+-]? (?: 0[xX](?:_?[0-9a-fA-F])+ | 0[oO](?:_?[0-7])+ | 0[bB](?:_?[01])+
    | (?: {_DIGITS} (?: \. (?:{_DIGITS})? )? | \. {_DIGITS} ) (?: [eE] [+-]? {_DIGITS} )? ) \s*""",
    re.VERBOSE,
)


class _Fields(NamedTuple):
    name: str | None
    seq: int
    time_ns: int


class Mark(_Fields):
    """A name for a state, or a bookmark of one.

    Attributes
    ----------
    name : str or None
        None for a bookmark.
    seq : int
        The state it names.
    time_ns : int
        When it was made, in nanoseconds since 1970-01-01 UTC.
    volumes : tuple of str or None
        The only volumes that it is meant for; None: all.
    """

    volumes: tuple[str, ...] | None = None
    _store: int | None = None  # of a bookmark, which has no entry that could tell
    _entry: int | None = None  # of an earlier state's, its entry's seq: the mark goes with that

    @classmethod
    def _of(
        cls,
        name: str | None,
        seq: int,
        time_ns: int,
        *volumes: str,
        store: int | None = None,
        entry: int | None = None,
    ) -> Mark:
        """Make a mark of some volumes, or without any, of all."""
        mark = cls(name, seq, time_ns)
        mark._store, mark._entry = store, entry
        if volumes:
            mark.volumes = volumes
        return mark

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mark) and self.volumes != other.volumes:
            return False
        return tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def _replace(self, /, **changes: Any) -> Mark:
        made = Mark(*super()._replace(**changes))
        made.volumes = self.volumes
        made._store, made._entry = self._store, self._entry
        return made

    @property
    def _row(self) -> list[str | int | None]:
        """What `of` takes to make it again."""
        return [*self, *(self.volumes or ())]


class HasSeq(Protocol):
    """What a mark and a snapshot have in common."""

    @property
    def name(self) -> str | None:
        """Its name."""

    @property
    def seq(self) -> int:
        """The state it names."""


class Window(NamedTuple):
    """The states that can be rebuilt now, less those that a rewind dropped."""

    oldest: int
    newest: int


class SeqPoint(NamedTuple):
    """A point given by its seq."""

    seq: int


class NamePoint(NamedTuple):
    """A point given by a mark's or a snapshot's name."""

    name: str


class TimePoint(NamedTuple):
    """A point given by a time, in nanoseconds since 1970-01-01 UTC."""

    time_ns: int


Point = SupportsIndex | str | datetime | HasSeq


def parse_point(point: Point) -> SeqPoint | NamePoint | TimePoint:
    """Sort out what kind of point the caller gave.

    Raises
    ------
    InvalidType
        A bool, a float, or anything else that names no state.
    InvalidArgument
        A datetime without a zone.
    """
    if isinstance(point, str):
        return NamePoint(point)
    if isinstance(point, datetime):
        return TimePoint(_as_nanoseconds(point))
    if isinstance(point, Mark):
        return SeqPoint(point.seq)
    seq = getattr(point, "seq", None)
    if isinstance(seq, int) and hasattr(point, "name"):
        return SeqPoint(seq)
    return SeqPoint(as_int(point, f"a point is {_POINT_KINDS}"))


def _as_nanoseconds(time: datetime) -> int:
    if time.tzinfo is None or time.utcoffset() is None:
        raise InvalidArgument(
            f"the time {time.isoformat()} has no zone; "
            "use datetime.now(timezone.utc) or .astimezone()"
        )
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000 + 999


def mark_text(name: str, volumes: Sequence[str] = (), state: int | None = None) -> bytes:
    """Return what the entry of a mark holds: its name, what it is meant for, an earlier state."""
    parts = [name, *volumes]
    return "\0".join(parts if state is None else [*parts, f"@{state}"]).encode()


def parse_mark_text(parts: Sequence[str]) -> tuple[list[str], int | None]:
    """Return the volumes, and the earlier state, that follow a mark's name in its entry."""
    states = [part[1:] for part in parts if part[:1] == "@"]  # which no volume's name begins with
    volumes = [part for part in parts if part[:1] != "@"]
    [state] = states[:1] or [""]
    return volumes, int(state) if _SEQ.fullmatch(state) else None


def check_name(name: str) -> str:
    """Return `name` if a mark or a snapshot may have it.

    A name has 1 to 255 bytes of UTF-8, no '/', '@' or control character, and is neither a number
    nor a time, so that a point written as text means one thing.

    Raises
    ------
    InvalidType, InvalidArgument
    """
    if not isinstance(name, str):
        raise InvalidType(f"a name must be a str, not {type(name).__name__}")
    try:
        length_bytes = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the name {name!r} is not valid Unicode") from error
    if not 1 <= length_bytes <= NAME_MAX_BYTES:
        raise InvalidArgument(f"a name has 1 to {NAME_MAX_BYTES} bytes, not {length_bytes}")
    for character in name:
        if character in "/@" or unicodedata.category(character) == "Cc":
            raise InvalidArgument(f"the name {name!r} has the character {character!r} in it")
    if looks_like_number(name) or looks_like_time(name):
        raise InvalidArgument(f"the name {name!r} could be taken for a number or a time")
    return name


def looks_like_number(text: str) -> bool:
    """Whether Python would read `text` as a number with a digit.

    It is not asked: what a signal's handler raises while ``int`` refuses a text is lost in there.
    """
    digits = (str(unicodedata.decimal(character, character)) for character in text)
    return _NUMBER.fullmatch("".join(digits)) is not None


def looks_like_time(text: str) -> bool:
    """Whether `text` reads as an ISO 8601 date or time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
