"""Collecting garbage: objects that no manifest has named for a while are deleted, and manifests.

A collector writes a manifest itself, which says what it is about to delete, before it does. As a
writer goes on from the newest manifest alone, none that was written later names what is deleted,
however long the collector sleeps in between.
"""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from jrnl.archive.chunks import Table
from jrnl.archive.ledger import Ledger
from jrnl.archive.lists import listed
from jrnl.archive.manifest import PREFIX, number_of
from jrnl.archive.objects import KeyTaken, ObjectMissing
from jrnl.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jrnl.archive.manifest import Manifest
    from jrnl.archive.objects import Listed, Objects

GRACE_SECONDS = 86400.0
PREFIXES = ("pack/", "rows/", "seg/", "snap/")
_TABLE_MOST = 1 << 30
_TRIES = 16


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

    Raises
    ------
    ArchiveError, CorruptionError, FormatError
    """
    for _ in range(_TRIES):
        with suppress(KeyTaken):
            return _Collection(objects, int(grace * 1e9), clock).run()
    raise ArchiveError(f"{objects}: a writer writes manifests as fast as they are collected")


class _Collection:
    def __init__(self, objects: Objects, grace_ns: int, clock: Callable[[], int]) -> None:
        self.objects, self.clock = objects, clock
        self.ledger = Ledger(objects, clock=clock)
        self.base = self.ledger.look_ahead()
        manifests = [*objects.list(PREFIX)]
        others = [listed for prefix in PREFIXES for listed in objects.list(prefix)]
        newest_ns = max((listed.time_ns for listed in (*manifests, *others)), default=0)
        self.before_ns = min(newest_ns, clock()) - grace_ns
        self.manifests = sorted(manifests, key=lambda listed: listed.key)
        self.others = others
        self.lists: dict[str, list[str]] = {}  # that were read: the segments of each

    def run(self) -> Collected:
        """Delete what may go. Raises KeyTaken where a writer was faster."""
        if self.base is None:
            return Collected(0, 0, 0)
        kept, old = self._split()
        named = {key for manifest in kept for key in self._keys_of(manifest)}
        going = [each for each in self.others
                 if each.time_ns < self.before_ns and each.key not in named]  # fmt: skip
        if going:
            self._announce([each.key for each in going])
            self.objects.delete([each.key for each in going])
        self.objects.delete([each.key for each in old])
        return Collected(len(going), sum(each.bytes for each in going), len(old))

    def _split(self) -> tuple[list[Manifest], list[Listed]]:
        """Return the manifests that were the newest within the grace period, and older objects."""
        assert self.base is not None
        listed = [each for each in self.manifests if number_of(each.key)]
        kept, old = [self.base], []
        for each, successor in pairwise(listed):
            n = number_of(each.key)
            assert n is not None
            if n >= self.base.n:
                continue
            if successor.time_ns < self.before_ns:
                old.append(each)
            else:
                with suppress(ObjectMissing):
                    kept.append(self.ledger.read(n))
        return kept, old

    def _keys_of(self, manifest: Manifest) -> set[str]:
        keys = {*manifest.keys(), *self._listed_by(manifest)}
        for snapshot in manifest.snapshots:
            body = self.objects.get(snapshot.key, most=_TABLE_MOST)
            keys |= {pack.key for pack in Table.parse(body, snapshot.key).packs}
        return keys

    def _listed_by(self, manifest: Manifest) -> Iterator[str]:
        for facts in manifest.lists:
            if facts.key not in self.lists:
                self.lists[facts.key] = [each.key for each in listed(self.objects, facts)]
            yield from self.lists[facts.key]

    def _announce(self, condemned: list[str]) -> None:
        """Write a manifest that says what is about to be deleted. Raises KeyTaken."""
        assert self.base is not None
        new = self.base.with_news(
            condemned=condemned, kind="collect", writer=self.ledger.writer, time_ns=self.clock()
        )
        if self.ledger.followers(self.ledger.create(new)) is None:
            raise KeyTaken(f"manifest {new.n}")
