"""Collecting garbage: objects that no manifest has named for a while are deleted, and manifests.

A collector writes a manifest itself, which says what it is about to delete, before it does. As a
writer goes on from the newest manifest alone, none that was written later names what is deleted,
however long the collector sleeps in between.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from jrnl.archive.ledger import Ledger
from jrnl.archive.manifest import PREFIX, number_of
from jrnl.archive.named import Named
from jrnl.archive.objects import KeyTaken, ObjectMissing
from jrnl.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.archive.manifest import Manifest
    from jrnl.archive.objects import Listed, Objects

GRACE_SECONDS = 86400.0
PREFIXES = ("pack/", "rows/", "seg/", "snap/")
_TRIES = 16
_CONDEMNED_MOST = 20_000  # by one manifest


class Collected(NamedTuple):
    """What a collection has deleted.

    Attributes
    ----------
    objects, bytes : int
        Segments, tables and packs.
    manifests : int
    """

    objects: int
    bytes: int
    manifests: int


def collect(
    objects: Objects,
    grace: float = GRACE_SECONDS,
    *,
    clock: Callable[[], int] = time.time_ns,
    seen: Named | None = None,
) -> Collected:
    """Delete what no manifest of the grace period names, and what is older than that.

    Parameters
    ----------
    objects : Objects
    grace : float
        Seconds. Readers that opened a state longer ago may find objects gone; a writer that slept
        for longer begins a new epoch.
    clock : callable
        Gives nanoseconds. Ages are by the store's own clock: this one only guards against one that
        runs ahead.
    seen : Named, optional
        What was read the last time; manifests that it knows are not read again.

    Raises
    ------
    ArchiveError, CorruptionError, FormatError
    """
    objects_, bytes_, manifests = 0, 0, 0
    seen = Named() if seen is None else seen
    for _ in range(_TRIES):
        done = _Collection(objects, int(grace * 1e9), clock, seen).run()
        if done is not None:
            found, is_all = done
            objects_, bytes_ = objects_ + found.objects, bytes_ + found.bytes
            manifests += found.manifests
            if is_all:
                break
    else:
        if not objects_:
            raise ArchiveError(
                f"{objects.url}: manifests are written as fast as they are collected; try later"
            )
    return Collected(objects_, bytes_, manifests)


class _Collection:
    """One announcement, and what is deleted by it.

    Attributes
    ----------
    named : set of str
        What the manifests name that were the newest within the grace period.
    """

    def __init__(
        self, objects: Objects, grace_ns: int, clock: Callable[[], int], seen: Named
    ) -> None:
        self.objects, self.clock, self.seen = objects, clock, seen
        self.ledger = Ledger(objects, clock=clock)
        self.base = self.ledger.look_ahead()
        listed = [*objects.list(PREFIX)]
        self.others = [each for prefix in PREFIXES for each in objects.list(prefix)]
        newest_ns = max((each.time_ns for each in (*listed, *self.others)), default=0)
        self.before_ns = min(newest_ns, clock()) - grace_ns
        self.manifests = {n: each for each in listed if (n := number_of(each.key))}
        self.named: set[str] = set()

    def run(self) -> tuple[Collected, bool] | None:
        """Delete what may go; return it, and whether that is all. None: it has to begin anew."""
        if self.base is None:
            return Collected(0, 0, 0), True
        first = self._name_back_from(self.base)
        going = [each for each in self.others
                 if each.time_ns < self.before_ns and each.key not in self.named]  # fmt: skip
        some = sorted(going, key=lambda each: each.time_ns)[:_CONDEMNED_MOST]
        if some:
            announced = self._announce(self.base, some)
            if announced is None:
                return None
            some = announced
            self.objects.delete([each.key for each in some])
        old = [each.key for n, each in sorted(self.manifests.items()) if n < first]
        self.objects.delete(old)
        deleted = Collected(len(some), sum(each.bytes for each in some), len(old))
        return deleted, len(going) <= _CONDEMNED_MOST

    def _name_back_from(self, newest: Manifest) -> int:
        """Note what the manifests of the grace period name; return the number of the oldest.

        One that was the newest until a younger one came is of it. A listing may lag, so they are
        found by their numbers; and what has taken a number that became free does not count.
        """
        first, oldest = self._walk_back(newest)
        if first < self.seen.forgotten:  # more is asked for than was the last time
            self.seen.clear()
            first, oldest = self._walk_back(newest)
        self.seen.newest, self.seen.oldest = (newest.n, newest.sum), oldest
        self.seen.forget(first)
        return first

    def _walk_back(self, newest: Manifest) -> tuple[int, tuple[int, str]]:
        """Return the oldest of the grace period, or 0, and how far the line was followed."""
        seen = self.seen
        self._name(newest)
        n, follows = newest.n, newest.follows
        while not self._is_old(n) and n > 1:
            if seen.newest == (n - 1, follows):
                n, follows = seen.oldest
                known = range(seen.newest[0], n - 1, -1)
                first = next((each for each in known if self._is_old(each)), 0)
                self.named.update(seen.since(first))
                if first:
                    return first, seen.oldest
                continue
            try:
                found = self.ledger.read(n - 1)
            except ObjectMissing:
                return 0, (n, follows)
            if found.sum != follows:
                return 0, (n, follows)
            n, follows = found.n, found.follows
            self._name(found)
        return n if self._is_old(n) else 0, (n, follows)

    def _is_old(self, n: int) -> bool:
        """Whether a manifest was there before the grace period began."""
        listed = self.manifests.get(n)
        return listed is not None and listed.time_ns < self.before_ns

    def _name(self, manifest: Manifest) -> None:
        self.named.update(self.seen.add(manifest, self.objects))

    def _announce(self, base: Manifest, going: list[Listed]) -> list[Listed] | None:
        """Write a manifest that says what is about to be deleted; return that.

        A writer's manifests that come meanwhile may name more. None: we have slept for so long that
        all has to begin anew.
        """
        for _ in range(_TRIES):
            condemned = [each.key for each in going]
            new = base.with_news(
                condemned=condemned, kind="collect", writer=self.ledger.writer, time_ns=self.clock()
            )
            try:
                created = self.ledger.create(new)
            except KeyTaken:
                newer = self._name_on_from(base)
                if newer is None:
                    return None
                base, going = newer, [each for each in going if each.key not in self.named]
                if not going:
                    return []
            else:
                return None if self.ledger.followers(created) is None else going
        return None

    def _name_on_from(self, base: Manifest) -> Manifest | None:
        """Note what the manifests name that follow one; return the newest, None of another line."""
        newest = base
        while True:
            try:
                found = self.ledger.read(newest.n + 1)
            except ObjectMissing:
                return newest if newest is not base else None
            if found.follows != newest.sum:
                return None
            newest = found
            self._name(newest)
