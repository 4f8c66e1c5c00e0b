"""Copies that are made behind the writer's back: what a snapshot begins as becomes its own.

A snapshot begins as a live image, which the journal keeps exact, and is copied a piece at a time,
by one thread a store that is there while there is something to copy. Locks are taken in this order:
the engine's, then `Copier.gate`. Who makes a piece has the gate, and never waits long for the
engine's lock; so whoever has the engine's lock may wait for the gate. A finalizer that comes in
there does not wait, either: it gets StoreBusy. The list of what is under way has no lock: it is
changed in one step, and a handler may take a snapshot wherever it comes in.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from _thread import start_new_thread
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

import numpy as np

from jrnl import copies
from jrnl._core import Gate, Trying, change_copies
from jrnl.errors import CorruptionError, JrnlError, StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl._core import CallbackDevice, Engine, FileDevice, Image, Log
    from jrnl.folder import Place

    Device = FileDevice | CallbackDevice

automatic = True  # tests that make each piece by hand set this to False: then there is no thread

_PIECES = 32  # 128 KiB each, of a copy in memory
_REST_SECONDS = 0.0001
_SYNC_EVERY = 16  # blocks of checksums, 2 MiB of content each
_FORK_SECONDS = 2.0


class Copy(ABC):
    """One image on its way to become a copy.

    Attributes
    ----------
    image : Image
        Live until `done`.
    given_up : bool
        Nobody needs it any more.
    done : bool
        Nothing is left to do: it is whole, or nobody needs it any more.
    error : Exception or None
        What stopped it, or what spoiled blocks of it.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self.given_up = False
        self.done = False
        self.error: Exception | None = None

    @property
    def files_to_make(self) -> int:
        """Of how many volumes it will open files."""
        return 0

    @abstractmethod
    def step(self, pieces: int, *, gently: bool) -> None:
        """Do a little more. By one thread at a time."""

    @abstractmethod
    def clean_up(self) -> None:
        """Remove what there is of it: it was given up."""

    def _finish(self) -> None:
        """Remember that it is over, and what could not be read."""
        self.error = None
        bad, seq = self.image.copy_damage
        if bad:
            entry = f"entry {seq}" if seq else "what production held"
            self.error = CorruptionError(
                f"{bad} blocks of 4096 bytes could not be copied: {entry} is damaged; reading "
                "them raises, the rest of the snapshot is good"
            )
        self.done = True


class MemoryCopy(Copy):
    """A copy in memory."""

    def __init__(self, image: Image, covered: list[int]) -> None:
        super().__init__(image)
        image.begin_copy(covered)

    def step(self, pieces: int, *, gently: bool) -> None:
        """Copy up to `pieces` pieces."""
        if not self.done and self.image.copy_on(pieces, gently):
            self._finish()

    def clean_up(self) -> None:
        """Memory goes with the image."""


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
            copies.remove(self._place, self.number, len(self.image.engine.sizes))

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
                copies.seed_of(self._key, self.number), self._made, self._sums
            )
        elif self._at < len(self._todo):
            self._store(gently)
        else:
            self._end()

    def _begin(self) -> None:
        """Make the files, and find out what there is to copy."""
        engine, place = self.image.engine, self._place
        sizes = engine.sizes
        copies.remove(place, self.number, len(sizes))  # of an attempt that a crash has ended
        made: list[Device | None] = [None] * len(sizes)
        sums: list[Device | None] = [None] * len(sizes)
        self._fresh = [True] * len(sizes)
        for volume in self._covered:
            name = copies.image_name(self.number, volume)
            self._fresh[volume] = not place.clone(self._clones[volume], name)
            made[volume] = (
                place.create(name, sizes[volume]) if self._fresh[volume] else place.open(name, True)
            )
            sums[volume] = place.create(
                copies.sums_name(self.number, volume), copies.sums_bytes(sizes[volume])
            )
        self._made, self._sums = made, sums

    def _look(self) -> None:
        """Find out what there is to copy: what is not zeroes in the copy's own state (R14).

        That is what production holds now, and what the journal's entries since that state cover:
        where bytes have become zeroes, its file may have holes by now. Production is looked at
        first, without the lock; what is written over meanwhile is in an entry then.
        """
        image = self.image
        held = {volume: image.engine.write_kept(volume) for volume in self._covered}
        with Trying(image.engine) as taken:
            if not taken:
                return
            since = {volume: image.blocks(volume) for volume in self._covered}
        self._todo = [
            (volume, number)
            for volume in self._covered
            for number in copies.numbers(np.concatenate([held[volume], since[volume]]))
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
        engine, seed = self.image.engine, copies.seed_of(self._key, self.number)
        self._marked, mark = copies.end_mark(engine, self._sums, seed)
        if self._marked >= 0:
            self._sums_end(lambda sums, length: sums.pwrite(length, mark))

    def _sums_end(self, act: Callable[[Device, int], object]) -> None:
        sums = self._sums[self._marked]
        assert sums is not None
        act(sums, copies.sums_bytes(self.image.engine.sizes[self._marked]))

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


class Copier:
    """Makes a store's copies, the oldest first.

    Attributes
    ----------
    engine : Engine
    gate : Gate
        Held by whoever makes a piece.
    log : Log or None
        A store's on disk: it lets no entry go that a copy needs.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.gate = Gate(engine)
        self.log: Log | None = None
        self._copies: list[Copy] = []
        self._wanted: list[Copy] = []  # somebody waits for them
        self._given_up: list[Copy] = []
        self._running = False  # the thread
        self._stopped = False
        _copiers.add(self)

    def add(self, copy: Copy) -> None:
        """Take on a copy; `start` has it made. The engine is locked."""
        change_copies(self, add=copy)

    def give_up(self, image: Image) -> None:
        """Make no more of a copy that nobody needs, if it is under way."""
        for copy in self.pending():
            if copy.image is image:
                copy.given_up = True
                self._given_up.append(copy)  # first: it is always in one of the two
                self._remove(copy)
        self._clean_up()

    def is_making(self, number: int) -> bool:
        """Whether files that are named after a number may be being made, or will be removed."""
        return any(copy.image.tag == number for copy in [*self.pending(), *self._given_up])

    def _clean_up(self) -> None:
        """Remove what was given up, unless a piece is being made: who makes it does so then."""
        while self._given_up:
            with Trying(self.gate) as taken:
                if not taken:
                    return
                while self._given_up:
                    self._given_up.pop().clean_up()

    def pending(self) -> list[Copy]:
        """Return what is under way, the oldest state first."""
        return self._copies

    def start(self) -> None:
        """Have the thread run, if there is anything for it to do."""
        if not automatic or self._stopped or self._next() is None:
            return
        if self._running:
            return
        self._running = True  # two of them, who were called at once, take turns
        try:
            # Who has the lock does not wait until it runs: the collector may run there first, and
            # a finalizer wait for the lock.
            start_new_thread(_work, (ref(self),))
        except BaseException:
            self._running = False
            raise

    def stop(self) -> None:
        """End the thread: it makes no more pieces once this has returned."""
        self._stopped = True
        with self.gate:
            pass

    def flush(self) -> None:
        """Make durable what was written to a store on disk that nobody will close."""
        with suppress(JrnlError, OSError), Trying(self.engine) as taken:
            if taken and self.log is not None:
                self.log.commit()

    def step(self) -> bool:
        """Make a piece of the oldest copy; return whether there was one."""
        with self.gate:
            copy = self._next()
            if copy is not None:
                self._advance(copy, 1, gently=False)
        self._clean_up()
        return copy is not None

    def turn(self) -> bool:
        """Do the thread's share: a few pieces, with rests; False where it has to end."""
        with self.gate:
            copy = None if self._stopped else self._next()
            if copy is None:
                self._running = False
                # Who has added one since, and saw this thread running, has started no other.
                return not self._stopped and self._next() is not None
            # What stops a copy is kept in it, and it is passed by from now on.
            with suppress(JrnlError, OSError, MemoryError):
                if copy in self._wanted:
                    self._advance(copy, 8 * _PIECES, gently=False)
                else:
                    self._advance(copy, _PIECES, gently=True)
        self._clean_up()
        return True

    def wait(self, copy: Copy, deadline: float | None) -> bool:
        """Have all of a copy made; False where that took too long. Raises what stopped it.

        The thread makes it, before others and without rests. Whoever waits holds no lock: what
        a signal's handler does meanwhile may need the engine's, which somebody may have who waits
        for the gate.
        From inside a call that has that lock, which the thread would need, it is made here.
        """
        self._wanted.append(copy)
        copy.error = None  # it is tried once more
        try:
            while True:
                under_way = copy in self._copies  # a signal may leave one there that is done
                if copy.done and not under_way:
                    return True
                self.engine.check_not_closed()
                if copy.error is not None:
                    raise copy.error
                left_to_thread = automatic and not self._stopped and under_way
                if not left_to_thread or self.engine.is_locked_here():
                    self._make_more(copy)
                else:
                    self.gate.check_not_here()
                self.start()
                if not copy.done and deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(_REST_SECONDS / 2)
        finally:
            self._wanted.remove(copy)

    def finish(self, copy: Copy) -> None:
        """Make all of a copy now. Raises what stopped it. The engine is locked."""
        while not copy.done or copy in self._copies:
            self._make_more(copy)
            if not copy.done:
                time.sleep(_REST_SECONDS / 2)  # others may wait for the gate

    def _make_more(self, copy: Copy) -> None:
        try:
            with Trying(self.gate, -1.0):
                self._advance(copy, 8 * _PIECES, gently=False)
        finally:
            self._clean_up()

    def finish_after(self, seq: int) -> None:
        """Finish the copies of later states: a rewind drops what they need. The lock is held."""
        for copy in self.pending():
            if copy.image.seq > seq:
                self.finish(copy)

    def finish_image(self, image: Image) -> None:
        """Finish the copy that an image becomes, if it is under way. The lock is held."""
        for copy in self.pending():
            if copy.image is image:
                self.finish(copy)

    def finish_oldest(self) -> None:
        """Finish the copy that needs the oldest entries: they are about to leave the log.

        Where what it needs is damaged, it goes without them.
        """
        pending = self.pending()
        for copy in pending:
            if copy.image.seq == pending[0].image.seq:
                try:
                    self.finish(copy)
                except CorruptionError:
                    self._remove(copy)

    def finish_all(self) -> None:
        """Finish all copies. The lock is held."""
        for copy in self.pending():
            self.finish(copy)

    def _next(self) -> Copy | None:
        """Return the copy that is next: one that somebody waits for, or the oldest."""
        going = [copy for copy in self._copies if copy.error is None]
        return next((copy for copy in going if copy in self._wanted), going[0] if going else None)

    def _advance(self, copy: Copy, pieces: int, *, gently: bool) -> None:
        try:
            copy.step(pieces, gently=gently)
        except OSError as error:
            copy.error = error
            if self.log is not None:
                self.log.poison(error.errno or 0)
            raise
        except StoreBusy:  # somebody has the lock for long: later
            return
        except (JrnlError, MemoryError) as error:
            copy.error = error
            raise
        if copy.done:
            self._remove(copy)
        else:
            copy.error = None

    def _remove(self, copy: Copy) -> None:
        change_copies(self, remove=copy)


def _work(reference: ref[Copier]) -> None:
    """Run as a store's thread, which does not keep the store alive."""
    copier = None
    try:
        while (copier := reference()) is not None and copier.turn():
            copier = None
            time.sleep(_REST_SECONDS)
    except BaseException:
        if copier is not None:
            copier._running = False
        raise


# A forked child has the locks as they were, and no thread that would let go of them. Whoever forks
# takes them before, and what they guard is as it should be; unless somebody keeps one for too long.

_copiers: WeakSet[Copier] = WeakSet()
_held: dict[int, list[tuple[Copier, bool, bool]]] = {}


def _before_fork() -> None:
    held = _held.setdefault(threading.get_ident(), [])
    for copier in list(_copiers):
        until = time.monotonic() + _FORK_SECONDS
        while not (locked := copier.engine.enter_soon()) and time.monotonic() < until:
            pass
        gated = copier.gate.acquire(timeout=_FORK_SECONDS)
        held.append((copier, locked, gated))


def _after_fork(child: bool) -> None:
    for copier, locked, gated in _held.pop(threading.get_ident(), []):
        if gated:
            copier.gate.release()
        copier._running = copier._running and not child
        if locked and child:
            copier.engine.renew_lock()
        elif locked:
            copier.engine.leave()


def _at_exit() -> None:
    for copier in list(_copiers):
        copier.stop()
        copier.flush()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=partial(_after_fork, False),
    after_in_child=partial(_after_fork, True),
)
atexit.register(_at_exit)
