"""Operations that read the file system in a state of a volume."""

from __future__ import annotations

from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jrnl.control.points import point_of
from jrnl.files import FileSystem, open_file_system
from jrnl.logwrites import LogHistory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jrnl.control.report import Report
    from jrnl.store import Store

_ROWS = 1000  # told at a time


def list_files(
    history: Store | LogHistory,
    report: Report,
    place: str = "/",
    at: str | None = None,
    volume: str | None = None,
    offset: int = 0,
    length: int | None = None,
    journal: bool = True,
) -> dict[str, Any]:
    """Give what a directory has as rows; return what file system it is."""
    with _file_system(history, at, volume, offset, length, journal) as found:
        entries = found.ls(place)
        for first in range(0, len(entries), _ROWS):
            report.rows([
                {"name": name, "type": kind, "size": size,
                 "mtime": None if mtime is None else mtime.isoformat()}
                for name, kind, size, mtime in entries[first : first + _ROWS]
            ])  # fmt: skip
        return {"kind": found.kind, "unclean": found.unclean, "applied": found.applied}


def read_file(
    history: Store | LogHistory,
    report: Report,
    place: str,
    at: str | None = None,
    volume: str | None = None,
    offset: int = 0,
    length: int | None = None,
    journal: bool = True,
) -> int:
    """Give a file's content as rows, in Base64, a piece each; return how many bytes there are."""
    with _file_system(history, at, volume, offset, length, journal) as found:
        return found.cat(place, _Pieces(report))


class _Pieces:
    """What is written to it goes on as rows."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def write(self, data: bytes) -> None:
        """Report a piece."""
        self._report.rows([{"data": b64encode(data).decode()}])


@contextmanager
def _file_system(
    history: Store | LogHistory,
    at: str | None,
    volume: str | None,
    offset: int,
    length: int | None,
    journal: bool,
) -> Iterator[FileSystem]:
    """Lend the file system in a volume of a state, or in a part of that: a partition."""
    point = history.seq if at is None else point_of(history, at)
    with_views = isinstance(history, LogHistory) or history.options.images != "after"
    with history.view(point) if with_views else history.recover(point) as state:
        target = state.volume if volume is None else state[volume]
        rest = target.size - offset if length is None else length
        yield open_file_system(target.as_file().part(offset, rest), journal=journal)
