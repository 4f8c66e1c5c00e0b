"""The asking side: do an operation here, or where the store is served."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jrnl.api import open_store
from jrnl.control.report import Silent
from jrnl.control.table import OPERATIONS
from jrnl.control.wire import (
    ANSWER_MAX_BYTES,
    SOCKET,
    address,
    encode,
    lines,
    process_of,
    raised,
    user_of,
)
from jrnl.errors import InvalidArgument, JrnlError, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jrnl.control.report import Report

_LOCKED_SECONDS = 2.0  # for a serving process that is closing the store
_CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0


def call(
    path: str | os.PathLike[str],
    name: str,
    arguments: Mapping[str, Any] | None = None,
    report: Report | None = None,
    *,
    answer_seconds: float = ANSWER_SECONDS,
) -> Any:
    """Do an operation on the store at `path`, in the process that serves it, if any does.

    Parameters
    ----------
    path : str or path
        A store on disk.
    name : str
        One of `OPERATIONS`.
    arguments : mapping, optional
        The operation's. Paths among them are taken from the root of the file system, so that they
        mean the same in both processes: make them absolute.
    report : Report, optional
        Is told how far it is, and given the rows.
    answer_seconds : float
        How long a serving process has to say that it begins; what it does then takes what it takes.

    Returns
    -------
    object
        What JSON can tell.

    Raises
    ------
    InvalidArgument, InvalidType
        There is no such operation, or it takes other arguments.
    JrnlError
        What has the socket does not answer in time, or gives no answer that can be read.
    JrnlError, OSError
        What opening the store and the operation itself raise.
    """
    operation = OPERATIONS.get(name)
    if operation is None:
        raise InvalidArgument(f"there is no operation {name!r}; there is {', '.join(OPERATIONS)}")
    given, heard = dict(arguments or {}), report or Silent()
    operation.check(given)
    deadline = time.monotonic() + _LOCKED_SECONDS
    while True:
        answer = _ask(path, name, given, heard, answer_seconds)
        if answer is not None:
            return answer["result"]
        try:
            store = open_store(path, operation.mode(given))
        except StoreLocked:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)  # a serving process begins, or ends
            continue
        with store:
            return operation(store, heard, given)


def is_served(path: str | os.PathLike[str]) -> bool:
    """Whether a process serves the store at `path` now."""
    connection = _connect(path)
    if connection is None:
        return False
    connection.close()
    return True


def _ask(
    path: str | os.PathLike[str],
    name: str,
    arguments: dict[str, Any],
    report: Report,
    answer_seconds: float,
) -> dict[str, Any] | None:
    """Return the answer of the serving process; None where nobody serves, or nothing was done."""
    connection = _connect(path)
    if connection is None:
        return None
    with connection:
        begun = False
        try:
            connection.settimeout(answer_seconds)
            with suppress(
                BrokenPipeError
            ):  # what it has said before it closed is read all the same
                connection.sendall(encode({"op": name, "args": arguments}))
            for line in lines(connection, ANSWER_MAX_BYTES, answer_seconds):
                answer = _parsed(line)
                if "begun" in answer:
                    begun = True
                elif "error" in answer:
                    raise raised(answer["error"])
                elif "result" in answer:
                    return answer
                else:
                    _report(answer, report)
        except TimeoutError as error:
            raise _silent(path, process_of(connection)) from error
        if begun:
            raise _lost()
        return None


def _report(answer: dict[str, Any], report: Report) -> None:
    """Pass on how far it is, or rows; what this version does not know is left out."""
    if "progress" in answer:
        match answer["progress"]:
            case [int(done), int(total)]:
                report.progress(done, total)
            case _:
                raise _unreadable()
    elif "rows" in answer:
        rows = answer["rows"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise _unreadable()
        report.rows(rows)


def _silent(path: str | os.PathLike[str], process: int) -> JrnlError:
    return JrnlError(
        f"process {process}, which has {SOCKET} in {os.fsdecode(path)!r}, does not answer: see "
        f"whether it is stopped or too busy; where it does not serve the store, end it"
    )


def _unreadable() -> JrnlError:
    return JrnlError(
        "the serving process gave an answer that is none; is it of the same version of jrnl?"
    )


def _lost() -> JrnlError:
    return JrnlError(
        "the process that serves the store has ended in the middle of it; what it had done stays "
        "as far as it was flushed: look at the store before you do it again"
    )


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _unreadable() from error
    if not isinstance(answer, dict):
        raise _unreadable()
    return answer


def _connect(path: str | os.PathLike[str]) -> socket.socket | None:
    """Return a connection to the serving process; None where there is none."""
    try:
        folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None  # opening it says what is wrong
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(address(folder))
        if user_of(connection) not in (0, os.geteuid(), os.stat(folder).st_uid):
            raise JrnlError("the socket in the store is another user's; nothing was asked there")
        return connection
    except (BlockingIOError, TimeoutError) as error:  # more wait there than are let in
        connection.close()
        raise JrnlError(
            f"what has {SOCKET} in {os.fsdecode(path)!r} takes no more clients: see whether it is "
            f"stopped, or try again"
        ) from error
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        return None
    except PermissionError as error:
        connection.close()
        if not os.access(path, os.X_OK, effective_ids=True):
            return None  # opening it says so
        error.filename, error.strerror = os.fspath(path), "another user's process serves the store"
        raise
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)
