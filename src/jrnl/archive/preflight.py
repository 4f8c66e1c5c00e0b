"""What an archive stands on is tried first: of those who create one key, one does."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

from jrnl.archive import sealed
from jrnl.archive.failures import KeyTaken, ObjectMissing
from jrnl.errors import ArchiveUnfit

if TYPE_CHECKING:
    from jrnl.archive.obstored import Objects

FOLDER = "preflight/"
RACERS = 8
ROUNDS = 2
_KIND = b"trial"
_MOST = 1 << 16


def check(objects: Objects) -> None:
    """Try an object store, on keys of its own that are deleted again.

    An object that was created is there, as it was put; a second one of its key is refused, and
    changes nothing; of eight that race, one wins; a listing shows what there is, at once; what was
    deleted is gone.

    Raises
    ------
    ArchiveUnfit
        It breaks one of these promises; the message says what was seen.
    ArchiveError
        It cannot be reached, refuses the credentials, or is full.
    """
    prefix = f"{FOLDER}{secrets.token_hex(16)}-"
    keys = [f"{prefix}one", *(f"{prefix}race-{k}" for k in range(ROUNDS))]
    try:
        _try_one(objects, keys[0])
        with ThreadPoolExecutor(RACERS, "jrnl-archive-preflight") as pool:
            for key in keys[1:]:
                _try_race(objects, key, pool)
        for after in ("", keys[1]):
            _try_listing(objects, prefix, keys, after)
    finally:
        objects.delete(keys)
    left = _listed(objects, prefix)
    if left:
        raise _unfit(
            objects, f"{len(left)} of {len(keys)} objects were listed after their deletion"
        )


def _try_one(objects: Objects, key: str) -> None:
    """Create, create again, read."""
    first, second = _body(), _body()
    objects.create(key, first)
    try:
        objects.create(key, second)
    except KeyTaken:
        pass
    else:
        raise _unfit(objects, "a second object was created in the place of one that was there")
    found = _read(objects, key)
    if found == second:
        raise _unfit(
            objects, "a second object was refused, and replaced the first one all the same"
        )
    if found != first:
        raise _unfit(objects, f"{len(found)} bytes came back that are not those that were put")
    part = objects.get_range(key, 5, 20)
    if part != first[5:25]:
        raise _unfit(objects, "a part of an object is not what was put there")


def _try_race(objects: Objects, key: str, pool: ThreadPoolExecutor) -> None:
    """Have eight threads create one key."""
    bodies = [_body() for _ in range(RACERS)]
    line = Barrier(RACERS)

    def race(body: bytes) -> bool:
        line.wait()
        try:
            objects.create(key, body)
        except KeyTaken:
            return False
        return True

    won = list(pool.map(race, bodies))
    if sum(won) != 1:
        raise _unfit(objects, f"of {RACERS} objects that were created at once under one key, "
                              f"{sum(won)} were taken")  # fmt: skip
    if _read(objects, key) != bodies[won.index(True)]:
        raise _unfit(objects, "an object that lost a race stands where the one that won should")


def _try_listing(objects: Objects, prefix: str, keys: list[str], after: str) -> None:
    """List what is there behind a key."""
    wanted = sorted(key for key in keys if key > after)
    listed = _listed(objects, prefix, after)
    if listed != wanted:
        raise _unfit(objects, f"a listing showed {len(listed)} of {len(wanted)} objects that are "
                              f"there{' behind a key' if after else ''}")  # fmt: skip


def _listed(objects: Objects, prefix: str, after: str = "") -> list[str]:
    found = objects.list(FOLDER, after)
    return [listed.key for listed in found if listed.key.startswith(prefix)]


def _read(objects: Objects, key: str) -> bytes:
    try:
        return objects.get(key, most=_MOST)
    except ObjectMissing:
        raise _unfit(objects, "an object that was created is not there") from None


def _body() -> bytes:
    return sealed.seal(_KIND, secrets.token_bytes(64), compress=False)


def _unfit(objects: Objects, seen: str) -> ArchiveUnfit:
    return ArchiveUnfit(
        f"{objects.url} cannot hold an archive: {seen}. Two writers would not be kept apart there, "
        "so use another store, or a version of it that keeps `If-None-Match: *` and lists at once"
    )
