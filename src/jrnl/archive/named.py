"""What manifests name, remembered from one collection to the next: each is read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl.archive.lists import listed
from jrnl.archive.table import Table

if TYPE_CHECKING:
    from jrnl.archive.manifest import Manifest
    from jrnl.archive.objects import Objects

_TABLE_MOST = 1 << 30


class Named:
    """The keys that a line of manifests names, for one who collects again and again.

    Attributes
    ----------
    newest : (int, str)
        Number and sum of the newest manifest of the line; 0 where nothing is known.
    oldest : (int, str)
        Number of the oldest one that was read, and the sum of the one that it follows.
    forgotten : int
        Keys that only manifests below this number name are not known any more.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Know nothing."""
        self.newest, self.oldest, self.forgotten = (0, ""), (0, ""), 0
        self._last: dict[str, int] = {}  # which manifest was the last to name it
        self._inner: dict[str, frozenset[str]] = {}  # what lists and tables name

    def add(self, manifest: Manifest, objects: Objects) -> set[str]:
        """Note what a manifest names, and what its lists and tables do; return that.

        Raises ArchiveError, CorruptionError, FormatError.
        """
        for facts in manifest.lists:
            if facts.key not in self._inner:
                self._inner[facts.key] = frozenset(each.key for each in listed(objects, facts))
        for snapshot in manifest.snapshots:
            if snapshot.key not in self._inner:
                body = objects.get(snapshot.key, most=_TABLE_MOST)
                packs = Table.parse(body, snapshot.key).packs
                self._inner[snapshot.key] = frozenset(pack.key for pack in packs)
        keys = {*manifest.keys()}
        for key in keys:
            self._last[key] = max(manifest.n, self._last.get(key, 0))
        return self._with_inner(keys)

    def since(self, n: int) -> set[str]:
        """Return what the manifests of the line name from number `n` on."""
        return self._with_inner({key for key, last in self._last.items() if last >= n})

    def forget(self, n: int) -> None:
        """Forget what only manifests below number `n` name."""
        self.forgotten = n
        self._last = {key: last for key, last in self._last.items() if last >= n}
        self._inner = {key: inner for key, inner in self._inner.items() if key in self._last}

    def _with_inner(self, keys: set[str]) -> set[str]:
        return keys.union(*(self._inner[key] for key in keys if key in self._inner))
