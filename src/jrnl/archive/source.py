"""What a writer asks of the store that it archives."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from jrnl.archive.manifest import Origin
from jrnl.disk.session import DiskSession
from jrnl.errors import ArchiveUnfit, InvalidArgument, PointExpired, ReadOnlyStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jrnl.archive.manifest import Manifest
    from jrnl.state import State
    from jrnl.store import Store


class Source:
    """An open store on disk, as an archive sees it.

    Raises
    ------
    InvalidArgument
        It is a store in memory.
    ReadOnlyStore
    """

    def __init__(self, store: Store) -> None:
        options = store.options
        session = store._session
        if not isinstance(session, DiskSession):
            raise InvalidArgument(
                "only a store on disk is archived: what is durable is what an archive follows. "
                "store.fork(path) makes one of a store in memory"
            )
        if options.mode == "r":
            raise ReadOnlyStore("the store is open for reading only; an archive follows a writer")
        self.store = store
        self.session, self.log = session, session.log
        self.images = options.images
        self.origin = Origin(
            f"{session.superblock.key:016x}",
            [[name, size] for name, size in options.volumes.items()],
            options.journal,
            options.images,
            options.overflow,
            options.sync or "flush",
            session.state.created_ns,
        )

    @property
    def durable_seq(self) -> int:
        """The newest state that is durable."""
        return self.log.durable_seq

    def check_follows(self, newest: Manifest | None, url: str) -> Origin:
        """Return the store as a manifest names it, if the archive is of it and not ahead of it.

        Raises ArchiveUnfit.
        """
        if newest is None:
            return self.origin
        if newest.store.key != self.origin.key:
            raise ArchiveUnfit(
                f"{url} has another store in it, {newest.store.key}; this one is "
                f"{self.origin.key}. Take another address; or have jrnl.archive.follow bring a "
                "store up to date from there, and promote it"
            )
        if newest.seq > self.durable_seq:
            raise ArchiveUnfit(
                f"{url} has state {newest.seq}, and the store only goes to {self.durable_seq}: an "
                "older copy of it was put back. Recover from the archive, or take another address"
            )
        made = self.time_of(newest.seq)
        if newest.seq > 0 and made is not None and made != newest.state_time_ns:
            raise ArchiveUnfit(
                f"{url} has another state {newest.seq} than the store: both went on from an older "
                "copy. Take another address"
            )
        return self.origin

    def time_of(self, seq: int) -> int | None:
        """Return when the entry of a seq was made; None where it has left."""
        rows = self.store.journal.between(max(seq, 0), max(seq, 0))
        return int(rows["time_ns"][0]) if rows.size else None

    def marks(self) -> Iterator[tuple[str, list[object]]]:
        """Yield what a manifest says of the store's marks."""
        for name, mark in self.store.marks.items():
            yield name, [mark.seq, mark.time_ns, mark._entry or mark.seq, *(mark.volumes or ())]

    def hold(self, seq: int) -> Held:
        """Return a state that stays readable while others write. Raises PointExpired."""
        return Held(self.store, seq, self.images)


class Held:
    """A state of the store that stays as it is until it is closed.

    Where the journal has before-images it is a recovery, which keeps what leaves; with after-images
    alone it is a snapshot, of the present state.
    """

    def __init__(self, store: Store, seq: int, images: str) -> None:
        self._snapshot = None
        if images == "after":
            name = f"archive-{secrets.token_hex(4)}"
            self._snapshot = store.snapshot(name)
            self.state: State = self._snapshot
        else:
            self._recovery = store.recover(seq)
            self.state = self._recovery
        self.seq = self.state.seq
        rows = store.journal.between(self.seq, self.seq)
        self.time_ns = int(rows["time_ns"][0]) if rows.size else store._engine.time_ns
        if images != "after" and self.seq != seq:
            self.close()
            raise PointExpired(f"state {seq} is not there any more")

    def close(self) -> None:
        """Give it up."""
        if self._snapshot is not None:
            self._snapshot.delete()
        else:
            self._recovery.close()
