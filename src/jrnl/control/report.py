"""Reports: how an operation tells what it does, to a terminal or through a socket."""

from __future__ import annotations

from typing import Any, Protocol

Row = dict[str, Any]


class Report(Protocol):
    """What an operation is given to tell how far it is, and to give rows as it finds them."""

    def progress(self, done: int, total: int) -> object:
        """Say how far it is. What this raises ends the operation."""

    def rows(self, rows: list[Row]) -> object:
        """Take the next rows of a table. What this raises ends the operation."""


class Silent:
    """A report that nobody reads, but for the rows, which it keeps."""

    def __init__(self) -> None:
        self.kept: list[Row] = []

    def progress(self, done: int, total: int) -> None:
        """Do nothing."""

    def rows(self, rows: list[Row]) -> None:
        """Keep them."""
        self.kept += rows
