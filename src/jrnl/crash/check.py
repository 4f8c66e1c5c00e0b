"""Checks: what says of a crash state whether it is good, a callable or a command."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jrnl.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from jrnl.crash.state import CrashState

Check = Callable[["CrashState"], object] | str | Sequence[str]
Judge = Callable[["CrashState"], str | None]

_TOLD_BYTES = 4000  # of what a command has said


def judge_of(check: Check, timeout_s: float | None = None) -> Judge:
    """Return what says what is wrong with a state: a sentence, or None where it is good.

    A callable finds it bad by returning what is false, but for None, or by raising an Exception. A
    command does by any exit status but 0, or by not ending in time.

    Raises InvalidType, InvalidArgument.
    """
    if callable(check):
        return lambda state: _called(check, state)
    if isinstance(check, str):
        return _Command(shlex.split(check), timeout_s)
    if isinstance(check, list | tuple) and all(isinstance(part, str) for part in check):
        return _Command(list(check), timeout_s)
    raise InvalidType(
        f"a check is a callable or a command, a str or its words, not {type(check).__name__}"
    )


def is_command(check: Check) -> bool:
    """Whether a check is a command."""
    return not callable(check)


def _called(check: Callable[[CrashState], object], state: CrashState) -> str | None:
    try:
        result = check(state)
    except Exception as error:
        said = str(error).strip()
        return f"{type(error).__name__}: {said}" if said else type(error).__name__
    return None if result is None or result else f"the check returned {result!r}"


class _Command:
    """A command with ``{}`` where the volume's path goes, or ``{name}`` of one of several."""

    def __init__(self, words: list[str], timeout_s: float | None) -> None:
        if not any("{" in word for word in words):
            raise InvalidArgument(
                f"the command {shlex.join(words)!r} has no {{}} where the path of the state goes"
            )
        self._words, self._timeout_s = words, timeout_s

    def __call__(self, state: CrashState) -> str | None:
        words = self._filled({name: state.path(name) for name in state.volumes})
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                check=False, timeout=self._timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:  # it was killed
            return f"{words[0]} has not ended after {self._timeout_s} s"
        if done.returncode == 0:
            return None
        said = done.stdout[-_TOLD_BYTES:].decode(errors="replace").strip()
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        return f"{words[0]} ended with {how}" + (f":\n{said}" if said else "")

    def _filled(self, paths: dict[str, str]) -> list[str]:
        places = {f"{{{name}}}": path for name, path in paths.items()}
        if len(paths) == 1:
            [places["{}"]] = paths.values()
        elif any("{}" in word for word in self._words):
            raise InvalidArgument(f"there are several volumes: say which, {' or '.join(places)}")
        pattern = "|".join(map(re.escape, places))
        if not any(re.search(pattern, word) for word in self._words):
            raise InvalidArgument(
                f"the command {shlex.join(self._words)!r} names no volume where the path of the "
                f"state goes: there is {' or '.join(places)}"
            )
        return [re.sub(pattern, lambda match: places[match[0]], word) for word in self._words]
