"""The simulated store: what is in it, what is on its way to it, what a listing may show.

Assumed of a store (docs/archive.md): an object that is created only is created once, whatever
meets; what was created can be read at once; a listing may lag behind by LAG_NS; everything else may
go wrong at any time. A request may take effect long after its caller has given it up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from jrnl.archive.objects import Listed

SECOND = 1_000_000_000
GRACE_NS = 100 * SECOND
LAG_NS = 30 * SECOND
START_NS = 1_700_000_000 * SECOND


class Stored(NamedTuple):
    body: bytes
    time_ns: int


class Flying(NamedTuple):
    """A request that takes effect at some time, or never."""

    kind: str  # "create" | "delete"
    key: str
    body: bytes


class Change(NamedTuple):
    """Something that a listing may not show yet."""

    time_ns: int
    key: str
    before: Stored | None
    after: Stored | None


class Wire:
    """The store's own side. What takes effect is told to `watch`, before it does."""

    def __init__(self, watch: Callable[[str, str, bytes], None]) -> None:
        self.watch = watch
        self.now_ns = START_NS
        self.objects: dict[str, Stored] = {}
        self.flying: list[Flying] = []
        self.changes: list[Change] = []

    def state(self) -> Hashable:
        """All that what follows depends on."""
        return (
            self.now_ns,
            tuple(self.objects.items()),
            tuple(self.flying),
            tuple(self.recent("")),
        )

    def wait(self, ns: int) -> None:
        self.now_ns += ns

    # What takes effect.

    def create(self, key: str, body: bytes) -> bool:
        """Create an object; False where there is one."""
        if key in self.objects:
            return False
        self.watch("create", key, body)
        self._change(key, Stored(body, self.now_ns))
        return True

    def delete(self, key: str) -> None:
        if key in self.objects:
            self.watch("delete", key, b"")
            self._change(key, None)

    def land(self, number: int) -> None:
        """A request that was on its way takes effect."""
        kind, key, body = self.flying.pop(number)
        if kind == "create":
            self.create(key, body)
        else:
            self.delete(key)

    def _change(self, key: str, after: Stored | None) -> None:
        self.changes.append(Change(self.now_ns, key, self.objects.pop(key, None), after))
        if after is not None:
            self.objects[key] = after

    # What is shown.

    def recent(self, prefix: str) -> list[Change]:
        """Return the changes that a listing need not show yet, newest first."""
        found = []
        for change in reversed(self.changes):
            if self.now_ns - change.time_ns > LAG_NS:
                break
            if change.key.startswith(prefix):
                found.append(change)
        return found

    def listing(self, prefix: str, after: str, hidden: list[Change]) -> list[Listed]:
        """Return what a listing shows, without some of the recent changes, newest first."""
        shown = {
            key: stored
            for key, stored in self.objects.items()
            if key.startswith(prefix) and key > after
        }
        for change in hidden:
            if change.key <= after:
                continue
            if change.before is None:
                shown.pop(change.key, None)
            else:
                shown[change.key] = change.before
        return [Listed(key, len(shown[key].body), shown[key].time_ns) for key in sorted(shown)]
