"""The ledger of an archive: which manifest is the newest, who may write the next one.

Manifests are created one after the other, and never replaced, so of two writers that would both
write the next one only one can. That is all that keeps them apart (docs/archive.md): who finds it
taken by another epoch raises Fenced before it has acknowledged anything.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from jrnl.archive.manifest import PREFIX, Manifest, manifest_key, number_of, sum_of
from jrnl.archive.objects import KeyTaken, ObjectMissing
from jrnl.errors import ArchiveError, Fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jrnl.archive.manifest import Origin
    from jrnl.archive.objects import Objects

_MANIFEST_MOST = 64 << 20
_TRIES = 64  # manifests that come while one is written


class Condemned(Exception):
    """What was about to be named may be deleted by now: it takes another epoch, and new keys."""


class Ledger:
    """One writer's, reader's or collector's view of an archive's manifests.

    Parameters
    ----------
    objects : Objects
    clock : callable, optional
        Gives nanoseconds since 1970-01-01 UTC.
    writer : str, optional
        A random number of this writer; drawn by default.

    Attributes
    ----------
    current : Manifest or None
        The newest that is known.
    epoch : int
        This writer's; 0 before `claim`.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        clock: Callable[[], int] = time.time_ns,
        writer: str | None = None,
    ) -> None:
        self.objects = objects
        self.clock = clock
        self.writer = writer or secrets.token_hex(16)
        self.current: Manifest | None = None
        self.epoch = 0
        self._condemned: set[str] = set()  # by collectors, in this epoch

    # Reading.

    def look(self) -> Manifest | None:
        """Return the newest manifest that is listed; None where there is none.

        Raises
        ------
        CorruptionError, FormatError, ArchiveError
        """
        after = manifest_key(self.current.n) if self.current is not None else PREFIX
        for _ in range(_TRIES):
            newest = max((n for n in map(number_of, self._listed(after)) if n), default=0)
            if not newest:
                return self.current
            with suppress(ObjectMissing):  # collected since it was listed: there are newer ones
                self.current = self.read(newest)
                return self.current
        raise ArchiveError(
            f"{self.objects}: the newest manifest that is listed, {newest}, cannot be read: the "
            "store lists what is gone"
        )

    def read(self, n: int) -> Manifest:
        """Return a manifest. Raises ObjectMissing, CorruptionError, FormatError, ArchiveError."""
        key = manifest_key(n)
        return Manifest.parse(self.objects.get(key, most=_MANIFEST_MOST), key)

    def all(self) -> list[Manifest]:
        """Return all manifests that are there, oldest first."""
        found = []
        for n in sorted(n for n in map(number_of, self._listed(PREFIX)) if n):
            with suppress(ObjectMissing):
                found.append(self.read(n))
        return found

    def _listed(self, after: str) -> Iterable[str]:
        return (listed.key for listed in self.objects.list(PREFIX, after=after))

    # Writing.

    def claim(self, begin: Callable[[Manifest | None], Origin], kind: str = "claim") -> Manifest:
        """Begin an epoch, in which nobody else may write.

        Parameters
        ----------
        begin : callable
            Gets the newest manifest, or None of a new archive; returns what store it is of, or
            raises what forbids the claim.

        Raises
        ------
        ArchiveError, and what `begin` raises.
        """
        for _ in range(_TRIES):
            self.look_ahead()
            base = self.current
            origin, now = begin(base), self.clock()
            if base is None:
                new = Manifest(1, 1, self.writer, kind, now, origin)
            else:
                new = base.with_news(
                    epoch=base.epoch + 1, writer=self.writer, kind=kind, time_ns=now, store=origin
                )
            with suppress(KeyTaken):
                new = self.create(new)
                later = self.followers(new)
                if later is not None:
                    self.epoch, self._condemned = new.epoch, set()
                    self._take(new, later)
                    return new
        raise ArchiveError(
            f"{self.objects}: others claim it as fast as we do; stop the other writers"
        )

    def publish(
        self,
        change: Callable[[Manifest], Manifest | None],
        named: Iterable[str] = (),
        kind: str = "publish",
    ) -> Manifest:
        """Create the next manifest; once this has returned, what it says is archived.

        Parameters
        ----------
        change : callable
            Makes the next manifest of the newest one, by `Manifest.with_news`; or returns None
            where that says it all already.
        named : iterable of str
            Keys of objects that are put already and that it names for the first time.

        Raises
        ------
        Fenced
            Another writer has claimed the archive. Nothing was acknowledged.
        Condemned
            A collector may delete what was about to be named: begin another epoch.
        ArchiveError
            Whether it was created is not known; the next call finds out.
        """
        if self.current is None or not self.epoch:
            raise Fenced(f"{self.objects}: this writer has not claimed it")
        named = frozenset(named)
        for _ in range(_TRIES):
            new = change(self.current)
            if new is None:
                return self.current
            if not named.isdisjoint(self._condemned):
                raise Condemned
            new = replace(
                new, epoch=self.epoch, writer=self.writer, kind=kind, time_ns=self.clock()
            )
            try:
                new = self.create(new)
            except KeyTaken:
                self._go_on_from(self.current.n + 1)
            else:
                if not self._counts(new):
                    raise Condemned
                return new
        raise ArchiveError(f"{self.objects}: collectors write manifests as fast as we do")

    def look_ahead(self) -> Manifest | None:
        """Return the newest manifest, though a listing may lag behind. Raises as `look`."""
        self.look()
        n = self.current.n if self.current is not None else 0
        while True:
            try:
                self.current = self.read(n + 1)
            except ObjectMissing:
                return self.current
            n += 1

    def create(self, manifest: Manifest) -> Manifest:
        """Create a manifest; return it with its sum. Raises KeyTaken."""
        body = manifest.to_bytes()
        self.objects.create(manifest_key(manifest.n), body)
        return replace(manifest, sum=sum_of(body))

    def followers(self, new: Manifest) -> list[Manifest] | None:
        """Return the manifests that go on from one, oldest first; None where it does not count.

        Manifests that others have written, and a collector has deleted since, leave their numbers
        free: who slept meanwhile may have taken one of these.
        """
        newest = max((n for n in map(number_of, self._listed(manifest_key(new.n))) if n), default=0)
        later: list[Manifest] = []
        try:
            for n in range(new.n + 1, newest + 1):
                later.append(self.read(n))
                if later[0].follows != new.sum:
                    return None
        except ObjectMissing:
            return None
        return later

    def _counts(self, new: Manifest) -> bool:
        """Whether a manifest that was created is archived. Raises Fenced."""
        later = self.followers(new)
        if later is None:
            self._check_own(self.look_ahead())
            return False
        self._take(new, later)
        return True

    def _take(self, new: Manifest, later: list[Manifest]) -> None:
        """Go on from our own manifest and what collectors have added. Raises Fenced."""
        for other in later:
            self._check_own(other)
            self._condemned.update(other.condemned)
        self.current = later[-1] if later else new

    def _go_on_from(self, n: int) -> None:
        """Go on from a manifest that is there already. Raises Fenced, Condemned."""
        try:
            other = self.read(n)
        except ObjectMissing:
            raise Condemned from None
        self._check_own(other)
        if other.writer == self.writer:  # an answer that never came
            if not self._counts(other):
                raise Condemned
            return
        self._condemned.update(other.condemned)
        self.current = other

    def _check_own(self, other: Manifest | None) -> None:
        """Raise Fenced where a manifest is of another writer; a collector is none."""
        assert other is not None
        if other.epoch != self.epoch:
            raise Fenced(
                f"{self.objects}: another writer has claimed this archive, with epoch "
                f"{other.epoch}; ours is {self.epoch}. Nothing more is archived from here: stop "
                "one of the two"
            )
        if other.writer != self.writer and other.kind != "collect":
            raise Fenced(
                f"{self.objects}: {manifest_key(other.n)} was written by another writer of our own "
                "epoch: a copy of this process, or of its machine, is running"
            )
