"""Going back in place: rewinds, and blocks that an exception rewinds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from jrnl._core import Block, to_the_end
from jrnl.closeable import NotCopied
from jrnl.errors import InvalidArgument, PinnedPoint
from jrnl.plan import BEFORE
from jrnl.points import Mark
from jrnl.view import View, told_of
from jrnl.window import present_seq

if TYPE_CHECKING:
    from jrnl.session import Session


class Rewind(NamedTuple):
    """What a rewind did: its seq, how many entries it dropped, how many bytes it put back."""

    seq: int
    entries: int
    bytes: int


class Savepoint(Block, NotCopied):
    """The context manager behind `Store.savepoint`."""

    def __init__(self, rewinder: Rewinder, name: str | None) -> None:
        self._rewinder = rewinder
        self._name = name
        self._mark: Mark | None = None
        self._start = 0

    def _begin(self) -> Mark:
        """Open it, or go on with that where a handler has broken it off."""
        rewinder, catalog = self._rewinder, self._rewinder.session.catalog
        with catalog.engine.changing() as engine:
            if self._mark is None:
                engine.check_open()
                if self._name is not None:
                    catalog.check_free(self._name)
                engine.expect_rewind()
                mark = Mark._of(self._name, engine.seq, engine.tick(), store=engine.identity)
                self._start = mark.seq
                self._mark = mark
            if self._name is not None:
                catalog.add_mark(self._mark, journaled=False)
            rewinder.starts[self] = self._start
            return self._mark

    def _end(self, *, failed: bool) -> None:
        catalog = self._rewinder.session.catalog
        with catalog.engine.changing() as engine:
            self._start = self._rewinder.starts.get(self, self._start)
            self._rewinder.starts.pop(self, None)
            if self._mark is not None:
                catalog.remove_mark(self._mark)
            if failed and not engine.closed:
                engine.check_open()
                self._rewinder.rewind(engine.resolve(self._start))
            self._mark = None


class Rewinder:
    """Puts a store's production back, and knows what waits for that: open savepoints.

    Attributes
    ----------
    session : Session
    starts : dict of Savepoint to int
        The seq that each one's start is kept under now.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.starts: dict[Savepoint, int] = {}

    def rewind(self, seq: int, close_views: bool = False, *, anyway: bool = False) -> Rewind:
        """Rewind to a state that has been resolved. The engine's lock is held.

        To the newest state it does nothing, or `anyway` makes its entry.
        """
        session, engine = self.session, self.session.engine
        session.check_rewind()
        for told in [*session.on_rewind]:
            told(seq)
        session.copier.finish_after(seq)
        try:
            result = Rewind(*engine.rewind(seq, anyway))
        except PinnedPoint:
            views = session.views.in_the_way(seq)
            if not views:
                raise
            if not close_views:
                raise told_of(views, seq) from None
            result = self._rewind_past(views, seq)
        session.catalog.snapshots_changed()  # some may be of states that were dropped
        session.rewound()
        # A start that was replaced goes by its successor's seq: the journal remembers such seqs for
        # long, not for ever, and an outer savepoint may wait for any number of inner ones.
        for savepoint, start in self.starts.items():
            self.starts[savepoint] = present_seq(engine, start) or start
        if result.entries:
            session.replaced()
        engine.happened("rewound", state=seq, **result._asdict())
        return result

    def _rewind_past(self, views: list[View], seq: int) -> Rewind:
        """Rewind, and close the views in its way; where it is refused they stay."""
        try:
            for view in views:
                view._step_aside(True)
            result = Rewind(*self.session.engine.rewind(seq))
        except BaseException:
            for view in views:
                view._step_aside(False)
            raise
        to_the_end(partial(_close, views))
        return result

    def check_before_images(self, what: str) -> None:
        """Raise InvalidArgument where a store keeps none."""
        if not self.session.engine.images & BEFORE:
            raise InvalidArgument(
                f"{what} needs before-images; create the store with images='before' or 'both'"
            )


def _close(views: list[View]) -> None:
    for view in views:
        view._close()
