"""Progress on a terminal, of whatever takes longer than a second."""

from __future__ import annotations

import sys
from threading import Lock, Timer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

    from jrnl.control.report import Row

_AFTER_SECONDS = 1.0


class Shown:
    """A report on the terminal: a bar on standard error after a second, and rows as they come.

    Parameters
    ----------
    what : str
        What is being done.
    rows : callable, optional
        Takes a list of rows.
    after_seconds : float
    """

    def __init__(
        self,
        what: str,
        rows: Callable[[list[Row]], object] | None = None,
        after_seconds: float = _AFTER_SECONDS,
    ) -> None:
        self._what, self._rows = what, rows
        self._lock = Lock()
        self._bar: Progress | None = None
        self._at = (0, 0)
        self._timer = Timer(after_seconds, self._begin) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def _end(self) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
            bar, self._bar = self._bar, None
        if timer is not None:
            timer.cancel()
        if bar is not None:
            bar.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        with self._lock:
            if self._timer is None:
                return
            done, total = self._at
            bar.add_task(self._what, total=total or None, completed=done)
            self._bar = bar
            bar.start()

    def progress(self, done: int, total: int) -> None:
        """Move the bar."""
        self._at = (done, total)
        bar = self._bar
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, total=total or None)

    def rows(self, rows: list[Row]) -> None:
        """Show rows; the bar goes before the first one."""
        if self._timer is not None:
            self._end()
        if self._rows is not None:
            self._rows(rows)
