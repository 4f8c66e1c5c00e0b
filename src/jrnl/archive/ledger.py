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

from jrnl.archive.manifest import MOST_BYTES, PREFIX, Manifest, manifest_key, number_of, sum_of
from jrnl.archive.objects import KeyTaken, ObjectMissing
from jrnl.errors import ArchiveError, Fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jrnl.archive.manifest import Origin
    from jrnl.archive.objects import Objects

_MANIFEST_MOST = MOST_BYTES + (1 << 16)
_TRIES = 64  # manifests that come while one is written
_CLAIMS = ("claim", "promote")
# A manifest's number may be free again a grace period after it was the newest: far later than this.
_LOOK_NS = 60_000_000_000


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
        self._tried: set[str] = set()  # sums of our own that may be there, or still come
        self._fenced = ""  # why, for good

    # Reading.

    def look(self) -> Manifest | None:
        """Return the newest manifest that is listed; None where there is none.

        Raises
        ------
        CorruptionError, FormatError, ArchiveError
        """
        found = self._listed_newest(self.current)
        if not self.epoch:  # a writer takes its manifests one by one, with what they condemn
            self.current = found
        return found

    def look_ahead(self) -> Manifest | None:
        """Return the newest manifest, though a listing may lag behind. Raises as `look`."""
        found = self._listed_newest(self.current)
        for _ in range(_TRIES):
            try:
                ahead = self.read(found.n + 1 if found is not None else 1)
            except ObjectMissing:
                if not self.epoch:
                    self.current = found
                return found
            same_line = ahead.follows == (found.sum if found is not None else "")
            found = ahead if same_line else self._listed_newest(found)
        raise ArchiveError(f"{self.objects.url}: manifests are written as fast as they are read")

    def _listed_newest(self, known: Manifest | None) -> Manifest | None:
        """Return the newest manifest that is listed behind a known one, or that one."""
        newest = 0
        for _ in range(_TRIES):
            start = self.clock()
            newest = self._highest(known.n if known is not None else 0)
            if not newest:
                return known
            with suppress(ObjectMissing):  # collected since it was listed: there are newer ones
                found = self.read(newest)
                # Who sleeps between the two may read what has taken a number that became free.
                if 0 <= self.clock() - start <= _LOOK_NS:
                    return found
        raise ArchiveError(
            f"{self.objects.url}: the newest manifest that is listed, {newest}, cannot be read in "
            "time: the store lists what is gone, or takes minutes to answer"
        )

    def read(self, n: int) -> Manifest:
        """Return a manifest. Raises ObjectMissing, CorruptionError, FormatError, ArchiveError."""
        key = manifest_key(n)
        return Manifest.parse(self.objects.get(key, most=_MANIFEST_MOST), key)

    def all(self) -> list[Manifest]:
        """Return all manifests that are there, oldest first."""
        found = []
        for n in sorted(n for n in map(number_of, self._listed()) if n):
            with suppress(ObjectMissing):
                found.append(self.read(n))
        return found

    def _highest(self, n: int) -> int:
        """Return the highest number of a manifest above `n` that is listed; 0: there is none."""
        after = manifest_key(n) if n else ""
        return max((n for n in map(number_of, self._listed(after)) if n), default=0)

    def _listed(self, after: str = "") -> Iterable[str]:
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
        Fenced
            This one has claimed before, and another writer since.
        ArchiveError, and what `begin` raises.
        """
        self._check_fence()
        for _ in range(_TRIES):
            base = self.look_ahead()
            if self.epoch and (base is None or not self._is_ours(base)):
                raise self._fence(f"another writer has claimed it since epoch {self.epoch}")
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
            f"{self.objects.url}: others claim it as fast as we do; stop the other writers"
        )

    def _is_ours(self, newest: Manifest) -> bool:
        """Whether the epoch of the newest manifest is ours, or one that we tried to claim."""
        found = newest
        with suppress(ObjectMissing):
            while found.epoch == newest.epoch != self.epoch and found.kind not in _CLAIMS:
                found = self.read(found.n - 1)
        return found.epoch == self.epoch or found.sum in self._tried

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
            Keys of objects that are put already and that it names for the first time, beside the
            segments and tables in it: the packs of a table.

        Raises
        ------
        Fenced
            Another writer has claimed the archive. Nothing was acknowledged.
        Condemned
            A collector may delete what was about to be named, or it was put in an earlier epoch:
            claim another one, and put it again.
        ArchiveError
            Whether it was created is not known; the next call finds out.
        """
        self._check_fence()
        if self.current is None or not self.epoch:
            raise Fenced(f"{self.objects.url}: this writer has not claimed it")
        named = frozenset(named)
        for _ in range(_TRIES):
            new = change(self.current)
            if new is None:
                return self.current
            self._check_fresh((named | frozenset(new.keys())) - frozenset(self.current.keys()))
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
        raise ArchiveError(f"{self.objects.url}: collectors write manifests as fast as we do")

    def _check_fresh(self, keys: frozenset[str]) -> None:
        """Raise Condemned unless these are of our epoch, and no collector has condemned them."""
        ours = f"/{self.epoch:08d}-"
        if not keys.isdisjoint(self._condemned) or not all(ours in key for key in keys):
            raise Condemned

    def create(self, manifest: Manifest) -> Manifest:
        """Create a manifest; return it with its sum. Raises KeyTaken."""
        body = manifest.to_bytes()
        new = replace(manifest, sum=sum_of(body))
        self._tried.add(new.sum)
        try:
            self.objects.create(manifest_key(new.n), body)
        except KeyTaken:
            self._tried.discard(new.sum)
            raise
        return new

    def followers(self, new: Manifest) -> list[Manifest] | None:
        """Return the manifests that go on from one, oldest first; None where it does not count.

        Manifests that others have written, and a collector has deleted since, leave their numbers
        free: who slept meanwhile may have taken one of these.
        """
        newest = self._highest(new.n)
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
        self._tried.clear()  # whatever of ours may still come finds its number taken

    def _go_on_from(self, n: int) -> None:
        """Go on from a manifest that is there already. Raises Fenced, Condemned."""
        try:
            other = self.read(n)
        except ObjectMissing:
            raise Condemned from None
        self._check_own(other)
        if other.sum in self._tried:  # an answer that never came
            if not self._counts(other):
                raise Condemned
            return
        self._take(other, [])
        self._condemned.update(other.condemned)

    def _check_own(self, other: Manifest | None) -> None:
        """Raise Fenced where a manifest is of another writer; a collector is none."""
        assert other is not None
        if other.epoch != self.epoch:
            raise self._fence(
                f"another writer has claimed this archive, with epoch {other.epoch}; ours is "
                f"{self.epoch}"
            )
        if other.kind != "collect" and other.sum not in self._tried:
            raise self._fence(
                f"{manifest_key(other.n)} was written by another one in our own epoch: a copy of "
                "this process, or of its machine, is running"
            )

    def _fence(self, why: str) -> Fenced:
        """Return the error that ends this writer, for good."""
        self._fenced = (
            f"{self.objects.url}: {why}. Nothing more is archived from here: stop one of the two"
        )
        return Fenced(self._fenced)

    def _check_fence(self) -> None:
        if self._fenced:
            raise Fenced(self._fenced)
