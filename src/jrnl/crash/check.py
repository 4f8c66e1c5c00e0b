"""Checks: what says of a crash state whether it is good, a callable or a command."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from jrnl.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jrnl.crash.state import CrashState

Check = Callable[["CrashState"], object] | str | Sequence[str]
Judge = Callable[["CrashState"], str | None]
_State = TypeVar("_State")

_TOLD_BYTES = 4000  # of what a command has said


def judge_of(check: Check, timeout_s: float | None = None) -> Judge:
    """Return what says what is wrong with a state: a sentence, or None where it is good.

    A callable finds it bad by returning what is false, but for None, or by raising an Exception. A
    command does by any exit status but 0, or by not ending in time.

    Raises InvalidType, InvalidArgument.
    """
    if callable(check):
        return lambda state: called(check, state)
    return command_of(check, timeout_s)


def command_of(check: str | Sequence[str], timeout_s: float | None = None) -> Command:
    """Return the command of a check that is one. Raises InvalidType, InvalidArgument."""
    if isinstance(check, str):
        try:
            words = shlex.split(check)
        except ValueError as error:
            raise InvalidArgument(f"the command {check!r} cannot be split: {error}") from error
        return Command(words, timeout_s)
    if isinstance(check, list | tuple) and all(isinstance(part, str) for part in check):
        return Command(list(check), timeout_s)
    raise InvalidType(
        f"a check is a callable or a command, a str or its words, not {type(check).__name__}"
    )


def is_command(check: Check) -> bool:
    """Whether a check is a command."""
    return not callable(check)


def called(check: Callable[[_State], object], state: _State) -> str | None:
    """Return what a callable finds wrong with a state; None where it is good."""
    try:
        result = check(state)
    except Exception as error:
        said = str(error).strip()
        return f"{type(error).__name__}: {said}" if said else type(error).__name__
    return None if result is None or result else f"the check returned {result!r}"


class Ended(NamedTuple):
    """How a command has ended.

    Attributes
    ----------
    status : int or None
        Its exit status, or the negative number of a signal; None: it was killed, as too slow.
    said : str
        The end of what it has written.
    """

    status: int | None
    said: str


class HasPaths(Protocol):
    """Volumes that other programs can open."""

    @property
    def volumes(self) -> Iterable[str]:
        """Their names."""

    def path(self, volume: str) -> str:
        """Return the path of one."""


class Command:
    """A command with ``{}`` where the volume's path goes, or ``{name}`` of one of several.

    Parameters
    ----------
    words : list of str
    timeout_s : float, optional
        After which it is killed.

    Raises
    ------
    InvalidArgument
        It has no place for a path.
    """

    def __init__(self, words: list[str], timeout_s: float | None = None) -> None:
        if not any("{" in word for word in words):
            raise InvalidArgument(
                f"the command {shlex.join(words)!r} has no {{}} where the path of the state goes"
            )
        self.words, self._timeout_s = words, timeout_s

    def __call__(self, state: HasPaths) -> str | None:
        """Return what is wrong with a state; None where it is good."""
        status, said = self.run(state)
        name = self.words[0]
        if status is None:
            return f"{name} has not ended after {self._timeout_s} s"
        if status == 0:
            return None
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{name} ended with {how}" + (f":\n{said}" if said else "")

    def run(self, state: HasPaths) -> Ended:
        """Run it on a state. Raises InvalidArgument, OSError."""
        words = self.filled({name: state.path(name) for name in state.volumes})
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                check=False, timeout=self._timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:  # it was killed
            return Ended(None, _end_of(error.output or b""))
        return Ended(done.returncode, _end_of(done.stdout))

    def filled(self, paths: dict[str, str]) -> list[str]:
        """Return its words with the paths of volumes in their places. Raises InvalidArgument."""
        places = {f"{{{name}}}": path for name, path in paths.items()}
        if len(paths) == 1:
            [places["{}"]] = paths.values()
        elif any("{}" in word for word in self.words):
            raise InvalidArgument(f"there are several volumes: say which, {' or '.join(places)}")
        pattern = "|".join(map(re.escape, places))
        if not any(re.search(pattern, word) for word in self.words):
            raise InvalidArgument(
                f"the command {shlex.join(self.words)!r} names no volume where the path of the "
                f"state goes: there is {' or '.join(places)}"
            )
        return [re.sub(pattern, lambda match: places[match[0]], word) for word in self.words]


def _end_of(said: bytes) -> str:
    return said[-_TOLD_BYTES:].decode(errors="replace").strip()
