"""Drills: a state restored from an archive and looked at, as it would be on the day it is needed.

What was done is a record that JSON can tell, so that it can be kept and compared.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jrnl.archive.ledger import Ledger
from jrnl.archive.objects import from_url
from jrnl.archive.restoring import restore
from jrnl.crash.check import Command, called, command_of
from jrnl.disk.log_files import volume_file
from jrnl.errors import InvalidArgument, JrnlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jrnl.points import Point
    from jrnl.store import Store

    Check = Callable[[Store], object] | str | Sequence[str]
    Progress = Callable[[int, int], object]


@dataclass
class Drilled:
    """What a drill has found.

    Attributes
    ----------
    url : str
        Of the archive, without credentials.
    at : str or None
        The point that was asked for; None: the newest state.
    began : str
        When, in ISO 8601, UTC.
    store : str
        The archived store's key, in hexadecimal digits; "" until it is known.
    manifest, epoch : int
        The archive's newest manifest at the beginning, and the epoch of its writer.
    state : int or None
        Which one was restored; None: none was.
    state_time : str or None
        When that state was made.
    age_seconds : float or None
        How old it was when the drill began: what a machine that was lost then would have lost, as
        far as its clock is right.
    volumes : dict of str to int
        Their sizes in bytes.
    bytes : int
        Of them, what may hold anything but zeroes.
    seconds : dict of str to float
        How long each part took: "restore", "verify", "check", "remove".
    problems : list of str
        What `Store.verify` has found.
    command : list of str or None
        The check, where it is a command.
    exit_code : int or None
        Its exit status, or the negative number of a signal; None: it was none, or too slow.
    output : str
        The end of what it has said; of a callable, what was wrong.
    passed : bool or None
        What the check says of the state; None: there was none, or it was not reached.
    error : str or None
        What kept it from being done to the end.
    """

    url: str
    at: str | None
    began: str
    store: str = ""
    manifest: int = 0
    epoch: int = 0
    state: int | None = None
    state_time: str | None = None
    age_seconds: float | None = None
    volumes: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    command: list[str] | None = None
    exit_code: int | None = None
    output: str = ""
    passed: bool | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the state was restored, nothing was found wrong, and the check has passed."""
        return self.error is None and not self.problems and self.passed is not False

    def record(self) -> dict[str, Any]:
        """Return all of it as what JSON can tell, with `ok`."""
        return {"ok": self.ok, **asdict(self)}


def drill(
    url: str | os.PathLike[str],
    at: Point | None = None,
    check: Check | None = None,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    *,
    timeout: float | None = None,
    **options: Any,
) -> Drilled:
    """Restore a state into scratch, and look at it; see `jrnl.archive.drill`."""
    command = None if check is None or callable(check) else command_of(check, timeout)
    objects = from_url(url, **options)
    if scratch is not None and not os.path.isdir(scratch):
        raise InvalidArgument(f"scratch is a folder that is there, not {os.fspath(scratch)!r}")
    done = Drilled(objects.url, None if at is None else _told(at), _now().isoformat())
    done.command = None if command is None else command.words
    place = tempfile.mkdtemp(prefix="jrnl-drill-", dir=scratch)
    path = os.path.join(place, "store.jrnl")
    try:
        newest = Ledger(objects).look()
        if newest is not None:
            done.store, done.manifest, done.epoch = newest.store.key, newest.n, newest.epoch
        with _timed(done, "restore"):
            store = restore(url, path, at, progress=progress, **options)
        with store:
            _look(done, store, progress)
            if command is None and callable(check):
                with _timed(done, "check"):
                    done.output = called(check, store) or ""
                done.passed = not done.output
        if command is not None:
            _run(done, command, path)
    except (JrnlError, OSError) as error:
        done.error = f"{type(error).__name__}: {error}"
    finally:
        with _timed(done, "remove"):
            shutil.rmtree(place, ignore_errors=True)
    return done


def _look(done: Drilled, store: Store, progress: Progress | None) -> None:
    """Say what was restored, and verify it."""
    done.state = store.seq
    made = store.window_time.newest
    done.state_time = made.astimezone(UTC).isoformat()
    done.age_seconds = (datetime.fromisoformat(done.began) - made).total_seconds()
    done.volumes = dict(store.options.volumes)
    done.bytes = sum(int(v.data_extents()["length"].sum()) for v in store.volumes.values())
    with _timed(done, "verify"):
        done.problems = [*store.verify(progress).problems]


def _run(done: Drilled, command: Command, path: str) -> None:
    """Run a command on the files of the volumes; the store is closed, so they are its own."""
    with _timed(done, "check"):
        done.exit_code, done.output = command.run(_Files(path, done.volumes))
    done.passed = done.exit_code == 0


class _Files:
    """The volumes' files in the folder of a store."""

    def __init__(self, path: str, volumes: Iterable[str]) -> None:
        self.volumes = [*volumes]
        self._path = path

    def path(self, volume: str) -> str:
        return os.path.join(self._path, volume_file(self.volumes.index(volume), volume))


@contextmanager
def _timed(done: Drilled, part: str) -> Iterator[None]:
    begin = time.monotonic()
    try:
        yield
    finally:
        done.seconds[part] = round(time.monotonic() - begin, 6)


def _told(at: Point) -> str:
    return at.isoformat() if isinstance(at, datetime) else str(getattr(at, "name", None) or at)


def _now() -> datetime:
    return datetime.now(UTC)
