"""Campaigns: a check held against many crash states, by several processes side by side."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from jrnl.crash.bundle import write_bundle
from jrnl.crash.check import is_command, judge_of
from jrnl.crash.find import least_lost, state
from jrnl.crash.jobs import Bad, Told, Workers, apart, by_commands, one_by_one
from jrnl.crash.walk import Coverage, States
from jrnl.errors import InvalidArgument
from jrnl.sizes import as_int, check_callable
from jrnl.store import Store

if TYPE_CHECKING:
    from jrnl.crash.check import Check, Judge
    from jrnl.crash.jobs import Progress
    from jrnl.crash.state import CrashState, Tag
    from jrnl.points import Point


_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Failure(NamedTuple):
    """A state on which the check fails.

    Attributes
    ----------
    id : str
    message : str
        What the check said.
    explanation : str
        What the state is: the moment, and what is lost.
    shrunk : str or None
        The id of the state with the least that is lost of it, and the check still fails.
    bundle : str or None
        The folder with all that it takes to see it again.
    """

    id: str
    message: str
    explanation: str
    shrunk: str | None = None
    bundle: str | None = None

    def __str__(self) -> str:
        said = f"{self.message}\n{self.explanation}"
        said += f"\nagain: jrnl.crash.state(history, {self.shrunk or self.id!r})"
        return said + (f"\nbundle: {self.bundle}" if self.bundle else "")


class Summary(NamedTuple):
    """What a campaign has found; ``str()`` is for people, `junit` for build servers.

    Attributes
    ----------
    ok : bool
        Whether the check passed on all that were looked at.
    failures : list of Failure
        One for each state that failed, as far as `failures_max` went; the first few are shrunk.
    coverage : Coverage
    seconds : float
    name : str
    """

    ok: bool
    failures: list[Failure]
    coverage: Coverage
    seconds: float
    name: str

    def __str__(self) -> str:
        looked = self.coverage.looked
        rate = looked / self.seconds if self.seconds else 0.0
        head = f"{self.name}: {self.coverage}; {self.seconds:.1f} s, {rate:,.0f} a second"
        if self.ok:
            return f"{head}\nthe check passes on all of them"
        bad = [f"{len(self.failures)} failed"]
        return "\n\n".join([f"{head}\n{bad[0]}", *map(str, self.failures)])

    def junit(self) -> str:
        """Return it as a JUnit XML report: one test case for each failure, and one for the rest."""
        name = quoteattr(_as_xml(self.name))
        cases = [
            f"  <testcase classname={name} name={quoteattr(bad.id)}>\n"
            f"    <failure message={quoteattr(_as_xml(bad.message.splitlines()[0]))}>"
            f"{escape(_as_xml(str(bad)))}"
            "</failure>\n  </testcase>"
            for bad in self.failures
        ]
        passed = self.coverage.looked - len(self.failures)
        cases.append(f"  <testcase classname={name} name={quoteattr(f'{passed} states')}/>")
        head = (
            f'<testsuite name={name} tests="{len(cases)}" '
            f'failures="{len(self.failures)}" time="{self.seconds:.3f}">'
        )
        body = "\n".join(cases)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{head}\n{body}\n</testsuite>\n'


def _as_xml(text: str) -> str:
    """Return text without what XML has no place for, such as the colours of a command's output."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def campaign(
    history: object,
    check: Check,
    jobs: int = 1,
    *,
    start: Point | None = None,
    stop: Point | None = None,
    mode: str = "subset",
    limit: int | None = None,
    seed: int = 0,
    reduce: str | None = None,
    tag: Tag | None = None,
    damage: str | None = None,
    failures_max: int = 10,
    shrink_max: int = 1,
    timeout: float | None = None,
    bundles: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    name: str = "crash states",
) -> Summary:
    """Hold a check against the crash states of a history.

    Parameters
    ----------
    history : Store or LogHistory
    check : callable, or command as str or sequence of str
        A callable gets a `CrashState`; the state is bad where it returns what is false, but for
        None, or raises an Exception. In a command ``{}`` stands for a path at which the volume can
        be read, ``{name}`` for one of several; it is bad where the exit status is not 0.
    jobs : int
        How many checks run side by side: a callable in forked processes, so what it changes is
        seen by nobody else; a command in processes anyway.
    start, stop, mode, limit, seed, reduce, tag, damage
        As for `states`.
    failures_max : int
        After so many failures it ends.
    shrink_max : int
        So many of them are shrunk.
    timeout : float, optional
        Seconds: a check that takes longer is ended, and its state is bad. A callable runs in a
        forked process then, also with one job.
    bundles : path, optional
        The folder in which each failure leaves one of its own: the state's id, what was said,
        the volume as a sparse file, and the entries as a log that replays it.
    progress : callable, optional
        Called as ``progress(looked, failed)`` now and then, and at the end. What it raises ends the
        campaign.
    name : str
        What reports call it.

    Returns
    -------
    Summary

    Raises
    ------
    InvalidArgument, InvalidType, UnknownPoint, PointExpired, OSError, and what reading the history
    raises. A check that dies by a signal is a failure of its state.
    """
    if as_int(jobs, "jobs must be an int") < 1:
        raise InvalidArgument(f"jobs must be at least 1, not {jobs}")
    check_callable(progress, "progress")
    if timeout is not None and not timeout > 0:
        raise InvalidArgument(f"timeout must be more than 0 seconds, not {timeout}")
    judge = judge_of(check, timeout)
    began = time.monotonic()
    states = States(history, start, stop, mode, limit, seed, reduce, tag, damage)
    told = Told(progress)
    if jobs > 1 and is_command(check):
        found = by_commands(states, judge, jobs, told)
    elif jobs > 1 or (timeout is not None and not is_command(check)):
        if isinstance(history, Store) and history.options.path is not None:
            raise InvalidArgument(
                "a store on disk is its process's alone: pass jobs=1 and no timeout, or a command "
                "as the check"
            )
        found = Workers(states, judge, jobs, told, timeout).bad_ones()
    else:
        found = one_by_one(states, judge, told)
    bad: list[Bad] = []
    for each in found:
        bad.append(each)
        told.failed = len(bad)
        if len(bad) >= failures_max:
            break
    found.close()
    told.tell(states.coverage.looked, last=True)
    failures = []
    again = judge if timeout is None or is_command(check) else apart(judge, timeout)
    for k, (id, message, died) in enumerate(sorted(bad, key=lambda each: _order(each[0]))):
        small = k < shrink_max and (timeout is not None or not died)
        bad_one = state(history, id, tag=tag)
        smaller = _smaller(bad_one, again) if small else bad_one
        bundle = None if bundles is None else write_bundle(smaller, message, bundles)
        shrunk = smaller.id if small else None
        failures.append(Failure(id, message, smaller.explain(), shrunk, bundle))
    seconds = time.monotonic() - began
    return Summary(not failures, failures, states.coverage, seconds, name)


def _order(id: str) -> tuple[int, str]:
    own = id.rpartition(":")[2]
    return int(re.split("[@-]", own)[0]), own


def _smaller(bad: CrashState, judge: Judge) -> CrashState:
    """Return the state with the least lost that is still bad; it may fail now and then only."""
    return bad if judge(bad._afresh()) is None else least_lost(bad, judge)
