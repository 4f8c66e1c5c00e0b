"""What must hold after every step, told from the outside: by what reaches the store alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

from jrnl.archive.manifest import Manifest, SegmentFacts, number_of, sum_of
from tests.archive.sim.wire import GRACE_NS, LAG_NS, Wire

KEEP = 3  # segments that a writer's retention leaves, at least


class Wrong(BaseException):
    """A rule is broken."""


def must(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


PARSE, TO_BYTES = Manifest.parse, Manifest.to_bytes
_known: dict[bytes, Manifest] = {}


def parse(body: bytes, key: str) -> Manifest:
    """Return what a manifest says, which takes as long as all else, and is asked for often.

    That reading gives back what was written is proved in `tests/archive/test_manifest.py`.
    """
    found = _known.get(body)
    return found if found is not None else PARSE(body, key)


def to_bytes(manifest: Manifest) -> bytes:
    if len(_known) > 1 << 14:
        _known.clear()
    body = TO_BYTES(manifest)
    _known[body] = replace(manifest, sum=sum_of(body))
    return body


@contextmanager
def quickly() -> Iterator[None]:
    """Read manifests so while the block runs: all else of the process reads them as ever."""
    Manifest.parse = staticmethod(parse)  # type: ignore[assignment]
    Manifest.to_bytes = to_bytes  # type: ignore[method-assign]
    try:
        yield
    finally:
        Manifest.parse, Manifest.to_bytes = PARSE, TO_BYTES  # type: ignore[method-assign]


def epoch_of(key: str) -> int:
    """Return the epoch in an object's key."""
    found = re.fullmatch(r"[a-z]+/([0-9]+)(?:-[0-9]+)+", key)
    must(found is not None, f"{key} has no epoch")
    assert found is not None
    return int(found[1])


@dataclass
class Line:
    """The one history: manifests that follow each other, and when each was the newest no more."""

    manifests: list[Manifest] = field(default_factory=list)
    ended_ns: list[int] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)  # by sum

    @property
    def newest(self) -> Manifest | None:
        return self.manifests[-1] if self.manifests else None


class Oracle:
    """Knows what reached the store, what was acknowledged, and who owns which epoch."""

    def __init__(self) -> None:
        self.wire = Wire(self.watch)
        self.line = Line()
        self.bodies: dict[str, bytes] = {}  # whatever was there once
        self.born: dict[str, int] = {}
        self.owners: dict[int, str] = {}  # of epochs
        self.condemned: set[str] = set()
        self.named: dict[str, int] = {}  # until when; -1 now
        self.fenced: set[str] = set()
        self.acknowledged = 0

    # Told by the store.

    def watch(self, kind: str, key: str, body: bytes) -> None:
        """Something is about to take effect."""
        if kind == "delete":
            self._deleted(key)
            return
        if number_of(key):
            self._manifest(parse(body, key))
            return
        self.born.setdefault(key, self.wire.now_ns)
        known = self.bodies.setdefault(key, body)
        must(known == body, f"{key} is created twice, with different content")

    def _manifest(self, new: Manifest) -> None:
        old, line = self.line.newest, self.line
        if new.sum in line.place:
            return  # an old one that comes again
        if old is not None and new.n <= old.n:
            return  # a number that has become free: it does not count
        must(new.n == (old.n if old else 0) + 1, f"manifest {new.n} leaves numbers out")
        must(new.follows == (old.sum if old else ""), f"manifest {new.n} follows another one")
        self._goes_on(old, new)
        names = self.names(new)
        for key in names:
            must(key in self.wire.objects, f"manifest {new.n} names {key}, which is not there")
            must(key not in self.condemned, f"manifest {new.n} names {key}, which is condemned")
        for key in new.condemned:
            must(key not in names, f"manifest {new.n} condemns {key}, which it names")
            young = self.wire.now_ns - self.born[key] <= GRACE_NS
            must(not young, f"manifest {new.n} condemns {key} within the grace period")
        self.condemned.update(new.condemned)
        now = self.wire.now_ns
        for key in self.names(old) if old else ():
            self.named[key] = now
        for key in names:
            self.named[key] = -1
        if line.manifests:
            line.ended_ns[-1] = now
        line.place[new.sum] = len(line.manifests)
        line.manifests.append(new)
        line.ended_ns.append(-1)

    def names(self, manifest: Manifest) -> list[str]:
        """Return what must be there while a manifest counts."""
        return [*manifest.keys()]

    def _goes_on(self, old: Manifest | None, new: Manifest) -> None:
        """Check that a manifest loses nothing, and is by whom it may be."""
        what = f"manifest {new.n} ({new.kind})"
        epoch = old.epoch if old else 0
        if new.kind in ("claim", "promote"):
            must(new.epoch == epoch + 1, f"{what} has epoch {new.epoch} after {epoch}")
            self.owners[new.epoch] = new.writer
        else:
            must(new.epoch == epoch, f"{what} has epoch {new.epoch}, without a claim")
            if new.kind == "publish":
                must(self.owners[epoch] == new.writer, f"{what} is by another than the claim")
        self._loses_nothing(old, new, what)
        known = set(self.names(old)) if old else set()
        for key in self.names(new):
            fine = key in known or epoch_of(key) == new.epoch
            must(fine, f"{what} names {key} for the first time")

    def _loses_nothing(self, old: Manifest | None, new: Manifest, what: str) -> None:
        before, after = (old.segments if old else []), new.segments
        dropped = next((k for k, each in enumerate(before) if each in after[:1]), len(before))
        if new.kind != "publish" or not before:
            must(dropped == 0, f"{what} leaves segments out")
        must(before[dropped:] == after[: len(before) - dropped], f"{what} loses segments")
        must(dropped == 0 or len(after) >= KEEP, f"{what} leaves too many segments out")
        for left, right in pairwise(after):
            must(left.last == right.base, f"{what} has a gap before {right.key}")
        must(not after or after[-1].last == new.seq, f"{what} is good for {new.seq}")
        must(new.seq >= (old.seq if old else -1), f"{what} goes back")

    def _deleted(self, key: str) -> None:
        now, line = self.wire.now_ns, self.line
        if number_of(key):
            place = line.place.get(parse(self.wire.objects[key].body, key).sum)
            if place is not None:
                ended = line.ended_ns[place]
                must(ended >= 0, f"{key}, the newest manifest, is deleted")
                must(now - ended > GRACE_NS, f"{key} is deleted within the grace period")
            return
        until = self.named.get(key)
        must(until != -1, f"{key} is deleted, and the newest manifest names it")
        must(until is None or now - until > GRACE_NS, f"{key} is deleted within the grace period")
        must(key in self.condemned, f"{key} is deleted, and no manifest has condemned it")

    # Told by actors.

    def puts(self, who: str, key: str) -> None:
        """A writer is about to put an object."""
        owner = self.owners.get(epoch_of(key))
        must(owner == who, f"{who} puts {key}, and the epoch is of {owner}")

    def fences(self, who: str) -> None:
        """A writer was told that another one goes on."""
        newest = self.line.newest
        assert newest is not None
        must(self.owners[newest.epoch] != who, f"{who} is fenced, and owns the newest epoch")
        self.fenced.add(who)

    def acknowledges(self, who: str, manifest: Manifest, segments: list[SegmentFacts]) -> None:
        """A writer says that these are archived."""
        must(who not in self.fenced, f"{who} acknowledges after it was fenced")
        place = self.line.place.get(manifest.sum)
        must(place is not None, f"{who} acknowledges manifest {manifest.n}, which does not count")
        assert place is not None
        for each in segments:
            named = any(each in one.segments for one in self.line.manifests[: place + 1])
            must(named, f"{who} acknowledges {each.key}, which is not in manifest {manifest.n}")
            must(epoch_of(each.key) <= manifest.epoch, f"{each.key} is of a later epoch")
        self.acknowledged += len(segments)

    def opened(self, manifest: Manifest, since_ns: int) -> None:
        """A reader takes a manifest for the newest, that began to look at `since_ns`."""
        place = self.line.place.get(manifest.sum)
        must(place is not None, f"a reader opens manifest {manifest.n}, which does not count")
        assert place is not None
        ended = self.line.ended_ns[place]
        must(ended < 0 or ended >= since_ns - LAG_NS, f"manifest {manifest.n} is not the newest")

    def served(self, key: str, body: bytes) -> None:
        """A reader was given an object."""
        must(self.bodies.get(key) == body, f"{key} is served, and never was like that")

    def missed(self, key: str, manifest: Manifest, since_ns: int) -> None:
        """A reader that looked for the newest manifest at `since_ns` does not find an object."""
        late = self.wire.now_ns - since_ns
        must(late > GRACE_NS - LAG_NS, f"manifest {manifest.n} names {key}, and it is gone")

    def end(self) -> None:
        """All that the newest manifest names is there."""
        newest = self.line.newest
        for key in self.names(newest) if newest else ():
            must(key in self.wire.objects, f"{key} is lost")
