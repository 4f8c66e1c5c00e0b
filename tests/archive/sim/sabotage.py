"""Each rule of the archive, and what takes it away: the simulation has to notice.

python -m tests.archive.sim.sabotage            in how many runs each one is noticed
python -m tests.archive.sim.sabotage NAME       ... one of them
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from obstore.exceptions import AlreadyExistsError

from jrnl.archive import named
from jrnl.archive.collector import _Collection
from jrnl.archive.ledger import Ledger
from jrnl.archive.manifest import Manifest
from jrnl.archive.objects import KeyTaken
from jrnl.archive.obstored import ObstoreObjects
from jrnl.archive.writer import Writer
from jrnl.errors import ArchiveError
from tests.archive.sim import actors, runs
from tests.archive.sim.wire import Stored, Wire
from tests.archive.sim.world import World


@dataclass(frozen=True)
class Switch:
    """A rule that is taken away.

    Attributes
    ----------
    what : str
        What the code does without it.
    says : str
        A regular expression: what is noticed, for one of the reasons that are right.
    off : list of (object, name, value)
        What is patched.
    most : int
        Runs in which it has to be noticed.
    """

    what: str
    says: str
    off: list[tuple[Any, str, Any]]
    most: int = 300
    run: Callable[[int], World] = runs.at_random


def _overwrite(wire: Wire, key: str, body: bytes) -> bool:
    wire.watch("create", key, body)
    wire._change(key, Stored(body, wire.now_ns))
    return True


_with_news, _publish = Manifest.with_news, Ledger.publish
_news, _go_on_from = Writer._news, Ledger._go_on_from
_announce, _segment_key = _Collection._announce, actors.segment_key


def _same_epoch(base: Manifest, **changes: Any) -> Manifest:
    if "epoch" in changes:
        changes["epoch"] = base.epoch
    return _with_news(base, **changes)


def _believe(self: Ledger, change: Callable[[Manifest], Manifest | None], named: Any) -> Manifest:
    """An answer that never came is taken for a good one."""
    assert self.current is not None
    new = change(self.current)
    try:
        return _publish(self, change, named)
    except ArchiveError:
        return new if new is not None else self.current


def _any_epoch(self: Ledger, keys: frozenset[str]) -> None:
    """Collectors' manifests are not looked at, only whose the keys are."""


def _delete_first(self: _Collection, base: Manifest, going: list[Any]) -> Any:
    self.objects.delete([each.key for each in going])
    return _announce(self, base, going)


def _name_nothing(self: _Collection, base: Manifest) -> Manifest | None:
    try:
        return self.ledger.read(base.n + 1)
    except ArchiveError:
        return None


def _newest_only(self: _Collection, newest: Manifest) -> int:
    self._name(newest)
    return newest.n


def _create_half(self: ObstoreObjects, key: str, body: bytes) -> None:
    try:
        self._put(key, body)
    except AlreadyExistsError:
        if bytes(self._store.get(key).bytes()) != body:
            raise KeyTaken(key) from None


def _not_ours(self: Ledger, n: int) -> None:
    self._tried.clear()
    return _go_on_from(self, n)


def _list_again(self: Writer, base: Manifest) -> Manifest | None:
    if self._list in base.lists:
        base = changed(base, lists=[each for each in base.lists if each != self._list])
    return _news(self, base)


def _by_listing(self: _Collection, newest: Manifest) -> int:
    """The manifests of the grace period are those that are listed."""
    self._name(newest)
    numbers = sorted(n for n in self.manifests if n < newest.n)
    for n, following in pairwise(numbers):
        if self.manifests[following].time_ns >= self.before_ns:
            self._name(self.ledger.read(n))
    return min(numbers, default=0)


def _unchecked(self: Ledger, new: Manifest) -> list[Manifest]:
    """What is listed above goes on from ours, whatever it says."""
    highest = self._highest(new.n)
    found = []
    for n in range(new.n + 1, highest + 1):
        try:
            found.append(self.read(n))
        except ArchiveError:
            continue
    return found


# What comes of it, whichever way it comes.
_HARM = (
    "does not count|which is not in|the epoch is of|and the newest manifest names it|which it names"
    "|within the grace period|which is not there|is condemned|no manifest has condemned|is gone"
    "|different content|loses|is lost|follows another|goes on|fenced|has epoch|without a claim"
    "|by another"
)

SWITCHES = {
    "create only": Switch(
        "what is there already is overwritten", _HARM,
        [(Wire, "create", _overwrite)],
    ),
    "epoch": Switch(
        "whose epoch the newest manifest has is not looked at", _HARM,
        [(Ledger, "_check_own", lambda self, other: None)],
    ),
    "look after create": Switch(
        "what was created counts, whatever else is there", _HARM,
        [(Ledger, "followers", lambda self, new: [])], 3000,
    ),
    "follows": Switch(
        "what is listed above is taken to go on from ours", _HARM,
        [(Ledger, "followers", _unchecked)], 3000,
    ),
    "new epoch": Switch(
        "a claim keeps the epoch", "has epoch",
        [(Manifest, "with_news", _same_epoch)],
    ),
    "acknowledge last": Switch(
        "a manifest whose answer never came is acknowledged", "does not count|which is not in",
        [(Ledger, "publish", _believe)],
    ),
    "condemned": Switch(
        "what a collector has condemned is named", _HARM,
        [(Ledger, "_check_fresh", _any_epoch)], 3000,
    ),
    "announce": Switch(
        "a collector deletes without saying so", _HARM,
        [(_Collection, "_announce", lambda self, base, going: going)], 1000,
    ),
    "announce first": Switch(
        "a collector deletes, then says so", _HARM,
        [(_Collection, "_announce", _delete_first)], 1000,
    ),
    "name on": Switch(
        "a collector does not look at what was named meanwhile", _HARM,
        [(_Collection, "_name_on_from", _name_nothing)], 5000,
    ),
    "grace": Switch(
        "the grace period is not kept", "within the grace period",
        [(actors, "GRACE_NS", 0)],
    ),
    "grace of manifests": Switch(
        "only what the newest manifest names is kept", "within the grace period|and it is gone",
        [(_Collection, "_name_back_from", _newest_only)], 1000,
    ),
    "remembered": Switch(
        "a collector forgets what manifests name that it has read", "within the grace period",
        [(named.Named, "since", lambda self, n: set())], 3000,
    ),
    "lag": Switch(
        "a collector trusts the listing of manifests", "within the grace period",
        [(_Collection, "_name_back_from", _by_listing)], 5000,
    ),
    "fenced for good": Switch(
        "a writer that was fenced claims again", "was fenced, and goes on",
        [(Ledger, "_check_fence", lambda self: None), (Ledger, "_is_ours", lambda self, m: True)],
    ),
    "own keys": Switch(
        "keys are used again in the next epoch", "different content|has epoch|the epoch is of",
        [(actors, "segment_key", lambda epoch, first, last: _segment_key(1, first, last))],
    ),
    "whole answers": Switch(
        "a body that came in part is taken for another's", "is fenced, and owns the newest epoch",
        [(ObstoreObjects, "_create", _create_half)], 3000,
    ),
    "tried": Switch(
        "a manifest whose answer never came is taken for another's", "owns the newest epoch",
        [(Ledger, "_go_on_from", _not_ours)],
    ),
    "named once": Switch(
        "a list that is named already is named again", "loses the states|cannot be read|it is gone",
        [(Writer, "_news", _list_again)], 3000, runs.archiving_at_random,
    ),
    "packs": Switch(
        "a collector does not open tables", "condemns pack/",
        [(named, "Table", SimpleNamespace(parse=lambda *_: SimpleNamespace(packs=())))],
        1000, runs.archiving_at_random,
    ),
    "lists": Switch(
        "a collector does not open lists", "condemns seg/",
        [(named, "listed", lambda objects, facts: [])], 3000, runs.archiving_at_random,
    ),
    "chain": Switch(
        "a manifest is written that leads nowhere", "does not lead|loses|no snapshot",
        [(Manifest, "way_to", lambda self, seq: ())], 300, runs.archiving_at_random,
    ),
}  # fmt: skip


@contextmanager
def without(name: str) -> Iterator[None]:
    """Take a rule away."""
    patches = [patch.object(*each) for each in SWITCHES[name].off]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def noticed(name: str) -> tuple[int, str]:
    """Return the run in which it is noticed that a rule is away, and what is said; or (-1, "")."""
    switch = SWITCHES[name]
    with without(name):
        for seed in range(switch.most):
            failure = switch.run(seed).failure
            if failure:
                return seed, failure
    return -1, ""


def main() -> int:
    names = sys.argv[1:] or list(SWITCHES)
    missed = 0
    for name in names:
        seed, failure = noticed(name)
        right = re.search(SWITCHES[name].says, failure) is not None
        missed += not right
        print(f"{name}: in run {seed + 1}: {failure or 'MISSED'}{'' if right else ' (WRONG)'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
