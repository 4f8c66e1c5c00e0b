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

from jrnl._core import Gate, Trying, change_copies
from jrnl.errors import CorruptionError, JrnlError, StoreBusy, StoreClosed, StorePoisoned

if TYPE_CHECKING:
    from jrnl._core import Engine, Image, Log

automatic = True  # tests that make each piece by hand set this to False: then there is no thread

_PIECES = 32  # 128 KiB each, of a copy in memory
_REST_SECONDS = 0.0001
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
        self._begun_seconds = time.monotonic()
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

    def tell(self) -> None:
        """Tell how it has ended; nothing, where nobody needed it."""
        engine, seq = self.image.engine, self.image.seq
        if self.given_up:
            return
        if self.error is not None:
            engine.happened("copy_damaged", seq=seq, problem=str(self.error))
            return
        seconds = time.monotonic() - self._begun_seconds
        engine.happened("copied", seq=seq, bytes=sum(engine.sizes), seconds=seconds)


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

    def __init__(self, engine: Engine, log: Log | None = None) -> None:
        self.engine = engine
        self.gate = Gate(engine)
        self.log = log
        self._copies: list[Copy] = []
        self._wanted: list[Copy] = []  # somebody waits for them
        self._given_up: list[Copy] = []
        self._running = False  # the thread
        self._stopped = False
        _copiers.add(self)

    def add(self, copy: Copy) -> None:
        """Take on a copy; `start` has it made. The engine is locked."""
        change_copies(self, add=copy)
        self.engine.happened("copying", seq=copy.image.seq)

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

    def _after_piece(self) -> None:
        """Do what waits for the gate to be let go."""
        self._clean_up()
        self.engine.tell()

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
        self._after_piece()
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
        self._after_piece()
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
            self._after_piece()

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
            self._tell_failed(copy, error)
            if self.log is not None:
                self.log.poison(error.errno or 0)
            raise
        except StoreBusy:  # somebody has the lock for long: later
            return
        except (JrnlError, MemoryError) as error:
            copy.error = error
            if not isinstance(error, StoreClosed | StorePoisoned):
                self._tell_failed(copy, error)
            raise
        if copy.done:
            self._remove(copy)
            copy.tell()
        else:
            copy.error = None

    def _tell_failed(self, copy: Copy, error: Exception) -> None:
        self.engine.happened("copy_failed", seq=copy.image.seq, problem=str(error))

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
