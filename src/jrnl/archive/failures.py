"""What an object store refused or never answered: which error that is, and whether to try again."""

from __future__ import annotations

import errno
import os
import random
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from jrnl.errors import ArchiveError, ArchiveFull, ArchiveRefused, ArchiveUnreachable
from jrnl.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FINAL = {errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}
_FULL_CODES = {"QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"}
_STATUS_FULL = 507
_STATUS_DENIED = {401, 403}
_ANY_CLIENT_ERROR = range(400, 500)
_CLIENT_ERRORS_THAT_PASS = {408, 409, 425, 429}  # and a RequestTimeout, which S3 makes a 400
_KINDS = {
    "Timeout": "no answer in time",
    "Connect": "no connection",
    "Decode": "the answer broke off",
    "Interrupted": "the answer broke off",
}


class KeyTaken(ArchiveError):
    """There is an object of that key, and it is another one."""


class ObjectMissing(ArchiveError):
    """There is no object of that key."""


class TryAgain(Exception):
    """What was answered cannot be the end of it: a body of another length, say."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call goes on trying: pauses double, each drawn from the half up to the whole.

    Parameters
    ----------
    deadline_s : float
        Seconds from a call's begin after which no other attempt is made.
    request_s : float
        Seconds that one request may take.
    first_s, longest_s : float
        Seconds, the pause after the first attempt, and the longest one.
    clock, sleep, chance : callable
        Seconds that only rise; a pause; a number from 0 to 1. A `sleep` that raises ends the call.
    told : callable, optional
        Hears what was wrong with an attempt that is made again: a str.
    """

    deadline_s: float = 60.0
    request_s: float = 30.0
    first_s: float = 0.05
    longest_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    chance: Callable[[], float] = random.random
    told: Callable[[str], object] | None = None

    def persist(self, what: str, call: Callable[[], _T]) -> _T:
        """Return what `call` does, tried until it answers or the deadline is over.

        Parameters
        ----------
        what : str
            What is asked of which object of which store, for messages.

        Raises
        ------
        ArchiveUnreachable, ArchiveRefused, ArchiveFull, KeyTaken, ObjectMissing, ArchiveError
        """
        base = need("obstore", "archive").exceptions.BaseError
        end, pause, attempts = self.clock() + self.deadline_s, self.first_s, 0
        while True:
            attempts += 1
            try:
                return call()
            except (TryAgain, base, OSError) as error:
                last = _settled(error, what)
            # The library's own error is not chained: its text may quote addresses and headers.
            if not isinstance(last, str):
                raise last
            pause_s = pause * (1 + self.chance()) / 2
            if self.clock() + pause_s > end:
                raise ArchiveUnreachable(
                    f"{what}: given up after {attempts} attempts in {self.deadline_s:g} s; the "
                    f"last one: {last}"
                )
            if self.told is not None:
                self.told(f"{what}: {last}; it is tried again")
            self.sleep(pause_s)
            pause = min(2 * pause, self.longest_s)


def _settled(error: Exception, what: str) -> ArchiveError | str:
    """Return the error that ends a call; or what was said, where another attempt may help."""
    exceptions = need("obstore", "archive").exceptions
    if isinstance(error, TryAgain):
        return str(error)
    text = str(error)
    status, code, number = _status(text), _code(text), _errno(error, text)
    said = _said(error, text, status, code, number)
    if status == _STATUS_FULL or code in _FULL_CODES or number in _FULL:
        return ArchiveFull(f"{what}: the store is full ({said}): make room there, or use another")
    denied = exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    # A listing that is refused has the library's general error, with the status in its text.
    if isinstance(error, denied) or status in _STATUS_DENIED or number in _DENIED:
        return ArchiveRefused(
            f"{what}: refused ({said}): look at the credentials in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...), and at what they may do"
        )
    if isinstance(error, FileNotFoundError):
        return ObjectMissing(f"{what}: there is no such object, or no such bucket")
    passes = status in _CLIENT_ERRORS_THAT_PASS or code == "RequestTimeout"
    if number in _FINAL or (status in _ANY_CLIENT_ERROR and not passes):
        return ArchiveError(f"{what}: the store does not take this request ({said})")
    if isinstance(error, exceptions.GenericError | exceptions.JoinError | OSError) or passes:
        return said
    return ArchiveError(f"{what}: the store does not take this request ({said})")


def _said(error: Exception, text: str, status: int, code: str, number: int) -> str:
    """Return what is safe to show of an error: numbers and codes, no part of a request."""
    kind = re.search(r"\bkind: (Timeout|Connect|Decode|Interrupted)\b", text)
    parts = [
        f"HTTP {status}" if status else "",
        code,
        os.strerror(number) if number else "",
        _KINDS[kind[1]] if kind else "",
    ]
    return ", ".join(part for part in parts if part) or type(error).__name__


def _status(text: str) -> int:
    found = re.search(r"\bstatus(?: code)?: (\d{3})\b|\bstatus (\d{3})\b", text)
    return int(found[1] or found[2]) if found else 0


def _code(text: str) -> str:
    found = re.search(r"<Code>([A-Za-z]{1,60})</Code>", text)
    return found[1] if found else ""


def _errno(error: Exception, text: str) -> int:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"\bos error (\d{1,3})\b|\bOs \{\s*code: (\d{1,3})\b", text)
    return int(found[1] or found[2]) if found else 0
