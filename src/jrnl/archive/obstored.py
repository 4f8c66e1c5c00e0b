"""The door to an object store: objects are created once, read, listed and deleted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from jrnl.archive.failures import KeyTaken, ObjectMissing, Patience, TryAgain
from jrnl.errors import CorruptionError, InvalidArgument
from jrnl.extras import need

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

_KEY = re.compile(r"[a-z]+(?:/[0-9a-z][0-9a-z-]*)*")
_KEY_MOST = 200
_DELETED_AT_ONCE = 1000
_LISTED_AT_ONCE = 1000
DEFAULT_MOST = 1 << 30
_JOINED_BYTES = 1 << 20  # between two ranges that one request asks for: as the library does


@dataclass(frozen=True, slots=True, order=True)
class Listed:
    """One object of a listing; `time_ns` is when the store itself says it was made."""

    key: str
    bytes: int
    time_ns: int


class Objects(Protocol):
    """What an archive asks of an object store. Keys are relative to the archive's own place.

    All calls may be made by several threads at once, and raise ArchiveUnreachable, ArchiveRefused,
    ArchiveFull, or ArchiveError, beside what they say.
    """

    @property
    def url(self) -> str:
        """Where it is, as messages show it: no credentials."""

    def create(self, key: str, body: bytes | memoryview) -> None:
        """Put an object that must not be there yet.

        An answer that never came is settled by reading the key: equal bytes count as ours, so what
        may race has to carry something of its writer's own. `body` must not change later, either:
        a store in memory keeps it, and an attempt that was given up may still be reading it.

        Raises
        ------
        KeyTaken
            There is another one, which stays as it is.
        """

    def get(self, key: str, most: int = DEFAULT_MOST) -> bytes:
        """Return an object of at most `most` bytes.

        Raises
        ------
        ObjectMissing
        CorruptionError
            It is larger.
        """

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object.

        Raises
        ------
        ObjectMissing
        CorruptionError
            It ends too early.
        """

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[memoryview]:
        """Return parts, each (start, length), near ones by one request. Raises as `get_range`.

        Not copied: all that came with a part stays in memory as long as the part does.
        """

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Yield the objects below a `prefix` ("seg/") whose keys are above `after`, rising."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""


class ObstoreObjects:
    """Objects in what the package `obstore` takes for a store."""

    def __init__(self, store: Any, url: str, patience: Patience | None = None) -> None:
        self._store, self._url = store, url
        self._patience = Patience() if patience is None else patience
        self._errors = need("obstore", "archive").exceptions

    def __repr__(self) -> str:
        return f"<objects at {self._url!r}>"

    @property
    def url(self) -> str:
        """Where it is, as messages show it: no credentials."""
        return self._url

    def create(self, key: str, body: bytes | memoryview) -> None:
        """Put an object that must not be there yet; see `Objects`."""
        check_key(key)
        self._patience.persist(self._asked("create", key), partial(self._create, key, body))

    def get(self, key: str, most: int = DEFAULT_MOST) -> bytes:
        """Return an object of at most `most` bytes; see `Objects`."""
        check_key(key)
        return self._patience.persist(self._asked("get", key), partial(self._get, key, most))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object; see `Objects`."""
        return bytes(self.get_ranges(key, [(start, length)])[0])

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[memoryview]:
        """Return parts, each (start, length); see `Objects`."""
        check_key(key)
        for start, length in ranges:
            if start < 0 or length < 0:
                raise InvalidArgument(f"{length} bytes at {start} are no range of an object")
        asked = [pair for pair in ranges if pair[1]]
        found: Iterator[memoryview] = iter(())
        if asked:
            what = self._asked("get a part of", key)
            found = iter(self._patience.persist(what, partial(self._get_ranges, key, asked)))
        return [next(found) if length else memoryview(b"") for _, length in ranges]

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Yield the objects below a prefix, rising by key; see `Objects`."""
        if prefix and not prefix.endswith("/"):
            raise InvalidArgument(f"{prefix!r} is no prefix: it ends with a slash, or is empty")
        what = self._asked("list", prefix)
        yield from self._patience.persist(what, partial(self._list, prefix, after))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        wanted = list(keys)
        for key in wanted:
            check_key(key)
        for k in range(0, len(wanted), _DELETED_AT_ONCE):
            some = wanted[k : k + _DELETED_AT_ONCE]
            what = self._asked("delete", some[0])
            self._patience.persist(what, partial(self._delete, some))

    def _reach(self) -> Any:
        """Return what `obstore` takes for a store."""
        return self._store

    # One attempt each.

    def _put(self, key: str, body: bytes | memoryview) -> None:
        # One request: several parts are not created as one thing everywhere.
        self._reach().put(key, body, mode="create", use_multipart=False)

    def _create(self, key: str, body: bytes | memoryview) -> None:
        try:
            self._put(key, body)
        except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
            # By another writer; or by us, in an attempt that was made and never answered.
            try:
                found = self._get(key, DEFAULT_MOST)  # whole: a part of ours is not another's
            except FileNotFoundError:  # two creates met, and neither has been made
                raise TryAgain("it was said to be there, and was not") from None
            if found != bytes(body):
                raise KeyTaken(f"{key} is there already in {self._url}") from None

    def _get(self, key: str, most: int) -> bytes:
        answer = self._reach().get(key)
        size = answer.meta["size"]
        if size > most:
            raise CorruptionError(f"{key} has {size} bytes; at most {most} can be")
        body = bytes(answer.bytes())
        if len(body) != size:
            raise TryAgain(f"{len(body)} of {size} bytes came")
        return body

    def _get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[memoryview]:
        spans, places = _spans(ranges)
        starts, lengths = (list(column) for column in zip(*spans, strict=True))
        try:
            found = self._reach().get_ranges(key, starts=starts, lengths=lengths)
        except self._errors.BaseError:
            self._check_holds(key, ranges)
            raise
        parts = [memoryview(part) for part in found]
        if [len(part) for part in parts] != lengths:
            self._check_holds(key, ranges)
            raise TryAgain(f"{sum(map(len, parts))} of {sum(lengths)} bytes came")
        return [
            parts[span][start : start + length]
            for (span, start), (_, length) in zip(places, ranges, strict=True)
        ]

    def _check_holds(self, key: str, ranges: Sequence[tuple[int, int]]) -> None:
        """Raise CorruptionError where an object ends before a range does."""
        size = self._reach().head(key)["size"]
        start, length = max(ranges, key=sum)
        if start + length > size:
            raise CorruptionError(
                f"{key} is damaged: it has {size} bytes, and {length} at {start} belong to it"
            )

    def _list(self, prefix: str, after: str) -> builtins.list[Listed]:
        stream = self._reach().list(
            prefix or None, offset=after or None, chunk_size=_LISTED_AT_ONCE
        )
        found = [
            Listed(object_["path"], object_["size"], _time_ns(object_["last_modified"]))
            for some in stream
            for object_ in some
        ]
        # A folder is listed in any order; and a store may say a key twice.
        return sorted({listed.key: listed for listed in found if listed.key > after}.values())

    def _delete(self, keys: Sequence[str]) -> None:
        try:
            self._reach().delete(keys)
        except FileNotFoundError:  # one of them; the others may not have been reached
            for key in keys:
                try:
                    self._reach().delete(key)
                except FileNotFoundError:
                    continue

    def _asked(self, what: str, key: str) -> str:
        return f"{what} {key or 'all'} in {self._url}"


def _spans(
    ranges: Sequence[tuple[int, int]],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return what is asked for by one request each, and for each range in which of them and where.

    Ranges that lie near each other are one span. The library would join them, too; but where the
    object ends before one of them, it panics.
    """
    spans: list[tuple[int, int]] = []
    places = [(0, 0)] * len(ranges)
    for k in sorted(range(len(ranges)), key=lambda k: ranges[k]):
        start, length = ranges[k]
        first, total = spans[-1] if spans else (start, 0)
        if spans and start <= first + total + _JOINED_BYTES:
            spans[-1] = first, max(total, start + length - first)
        else:
            spans.append((start, length))
        places[k] = len(spans) - 1, start - spans[-1][0]
    return spans, places


def check_key(key: str) -> None:
    """Raise InvalidArgument unless `key` may be one: lower-case words between slashes.

    It names nothing outside of the archive, whatever has written it.
    """
    if len(key) > _KEY_MOST or not _KEY.fullmatch(key):
        raise InvalidArgument(f"{key[:_KEY_MOST]!r} is no key of an archive's object")


def _time_ns(time: datetime) -> int:
    """Return nanoseconds since 1970, exactly."""
    return int(time.timestamp()) * 1_000_000_000 + time.microsecond * 1000


__all__ = ["DEFAULT_MOST", "KeyTaken", "Listed", "ObjectMissing", "Objects", "ObstoreObjects"]
