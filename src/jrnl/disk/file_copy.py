"""A snapshot's copy on its way into files, a piece at a time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from jrnl._core import Trying
from jrnl.disk import snapshot_files
from jrnl.snapshot_copier import Copy

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl._core import CallbackDevice, FileDevice, Image
    from jrnl.disk.folder import Place

    Device = FileDevice | CallbackDevice

_SYNC_EVERY = 16  # blocks of checksums, 2 MiB of content each


class FileCopy(Copy):
    """A copy in files.

    Parameters
    ----------
    number : int
        Which the files are named after.
    clones : list of str
        The volumes' files: shared, but for what differs, where the file system can.
    settle : callable
        ``settle(number)``: return what has the superblocks say that it is whole, or None. The
        engine is locked; what is returned is called without that.
    is_used : callable
        ``is_used(number)``: whether somebody will look for the files. Where a snapshot was deleted,
        who has it open reads on, from files without a name. The engine is locked.
    """

    def __init__(
        self,
        place: Place,
        key: int,
        number: int,
        image: Image,
        covered: list[int],
        clones: list[str],
        settle: Callable[[int], Callable[[], None] | None],
        is_used: Callable[[int], bool],
    ) -> None:
        super().__init__(image)
        image.tag = number
        self.number = number
        self._place = place
        self._key = key
        self._covered = covered
        self._clones = clones
        self._settle = settle
        self._is_used = is_used
        self._made: list[Device | None] = []
        self._sums: list[Device | None] = []
        self._begun = False
        self._fresh: list[bool] = []
        self._todo: list[tuple[int, int]] | None = None
        self._at = 0
        self._marked = -1  # the volume whose checksums the end is marked behind
        self._synced = False
        self._settled = False

    @property
    def files_to_make(self) -> int:
        """Of how many volumes it will open files."""
        return 0 if self._made else len(self._covered)

    def clean_up(self) -> None:
        """Remove its files; the next opening removes what cannot be removed now."""
        self._made = self._sums = []
        with suppress(OSError):
            snapshot_files.remove(self._place, self.number, len(self.image.engine.sizes))

    def step(self, pieces: int, *, gently: bool) -> None:
        """Make the files, or copy what one block of checksums covers, or end it."""
        if self.done:
            return
        self.image.engine.check_not_closed()
        if self.given_up or not self.image.is_needed:
            self._drop()
        elif not self._made:
            self._begin()
        elif self._todo is None:
            self._look()
        elif not self._begun:
            self._begun = self.image.begin_stored(
                snapshot_files.seed_of(self._key, self.number), self._made, self._sums
            )
        elif self._at < len(self._todo):
            self._store(gently)
        else:
            self._end()

    def _begin(self) -> None:
        """Make the files, and find out what there is to copy."""
        engine, place = self.image.engine, self._place
        sizes = engine.sizes
        snapshot_files.remove(place, self.number, len(sizes))  # of an attempt that was cut off
        made: list[Device | None] = [None] * len(sizes)
        sums: list[Device | None] = [None] * len(sizes)
        self._fresh = [True] * len(sizes)
        for volume in self._covered:
            name = snapshot_files.image_name(self.number, volume)
            self._fresh[volume] = not place.clone(self._clones[volume], name)
            made[volume] = (
                place.create(name, sizes[volume]) if self._fresh[volume] else place.open(name, True)
            )
            length = snapshot_files.sums_bytes(sizes[volume])
            sums[volume] = place.create(snapshot_files.sums_name(self.number, volume), length)
        self._made, self._sums = made, sums

    def _look(self) -> None:
        """Find out what there is to copy: what is not zeroes in the copy's own state (R14).

        That is what production holds now, and what the journal's entries since that state cover:
        where bytes have become zeroes, its file may have holes by now. Production is looked at
        first, without the lock; what is written over meanwhile is in an entry then.
        """
        image = self.image
        held = {volume: image.engine.data_blocks(volume) for volume in self._covered}
        with Trying(image.engine) as taken:
            if not taken:
                return
            since = {volume: image.blocks(volume) for volume in self._covered}
        self._todo = [
            (volume, number)
            for volume in self._covered
            for number in snapshot_files.numbers(np.concatenate([held[volume], since[volume]]))
        ]

    def _store(self, gently: bool) -> None:
        assert self._todo is not None
        volume, number = self._todo[self._at]
        stored = self.image.store_on(volume, number, gently, self._fresh[volume])
        if stored is None:
            self._drop()
        elif stored:
            self._at += 1
            if gently and self._at % _SYNC_EVERY == 0:
                self._sync()  # so that the end has little left to sync

    def _drop(self) -> None:
        """End it half way: nobody needs it any more."""
        self._finish()
        self.clean_up()

    def _mark_end(self) -> None:
        """Say in the files themselves that all has been written; `_end` takes it away again."""
        engine, seed = self.image.engine, snapshot_files.seed_of(self._key, self.number)
        self._marked, mark = snapshot_files.end_mark(engine, self._sums, seed)
        if self._marked >= 0:
            self._sums_end(lambda sums, length: sums.pwrite(length, mark))

    def _sums_end(self, act: Callable[[Device, int], object]) -> None:
        sums = self._sums[self._marked]
        assert sums is not None
        act(sums, snapshot_files.sums_bytes(self.image.engine.sizes[self._marked]))

    def _sync(self) -> None:
        for device in (*self._made, *self._sums):
            if device is not None:
                device.sync()

    def _end(self) -> None:
        """Make it durable, and have the superblocks say so; from then on it is what is read."""
        engine = self.image.engine
        if not self._synced:
            self._mark_end()
            self._sync()
            self._place.sync()
            self._synced = True
        write, settles = None, not self._settled and self.image.is_needed
        with Trying(engine) as taken:
            if not taken:
                return
            engine.check_not_closed()
            if settles:
                write = self._settle(self.number)
            else:
                if self.image.is_needed:
                    if self._marked >= 0:  # the superblocks say it now
                        self._sums_end(lambda sums, length: sums.truncate(length))
                    self.image.end_stored()
                self._finish()
                if not self._is_used(self.number):
                    self.clean_up()
                self._made = self._sums = []
        if write is not None:
            write()
        self._settled = settles or self._settled
