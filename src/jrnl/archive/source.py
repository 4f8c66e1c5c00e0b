"""What a writer asks of the store that it archives."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from jrnl.archive.manifest import Origin
from jrnl.disk.session import DiskSession
from jrnl.errors import ArchiveUnfit, InvalidArgument, PointExpired, ReadOnlyStore
from jrnl.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jrnl.archive.manifest import Manifest
    from jrnl.snapshot import Snapshot
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

    def hold(self, seq: int, keep: Callable[[Held], object], *, firmly: bool = False) -> None:
        """Have a state stay readable while others write; `keep` gets it before a rewind can come.

        With `firmly` a rewind to an earlier one does not end it, but waits; and it may be a later
        state. Raises PointExpired.
        """
        if firmly or self.images == "after":
            keep(Held(self.store, self.store.snapshot(f"archive-{secrets.token_hex(4)}")))
            return
        with self.session.engine:
            held = Held(self.store, self.store.recover(seq))
            if held.seq == seq:
                keep(held)
                return
            held.close()
        raise PointExpired(f"state {seq} is not there any more")


class Held:
    """A state of the store that stays as it is until it is closed.

    Either it is a recovery, which keeps what leaves the journal, and goes when production is
    rewound to before it; or a snapshot, which is copied.
    """

    def __init__(self, store: Store, state: Recovery | Snapshot) -> None:
        self.state, self.seq = state, int(state.seq)
        self._made_at = store._engine.seq  # a recovery stands in the way of what drops this, too
        rows = store.journal.between(self.seq, self.seq)
        self.time_ns = int(rows["time_ns"][0]) if rows.size else store._engine.time_ns

    def give_way(self, seq: int) -> None:
        """Go, where a rewind to a state is about to drop this one. The engine is locked."""
        if isinstance(self.state, Recovery) and self._made_at > seq:
            self.state._close()

    def close(self) -> None:
        """Give it up."""
        if isinstance(self.state, Recovery):
            self.state.close()
        else:
            self.state.delete()
