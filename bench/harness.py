"""How a case is measured: in turn with its yardstick, on the same work, in the same run.

A machine drifts: by its clock, its neighbours, its memory's layout. So each round of ours stands
beside a round of the yardstick just before it, with the same offsets and data, and the figure that
counts is the median of the pairs' ratios. Times are for people, ratios are for targets.
"""

import dataclasses
import itertools
import statistics
import time

import pytest

from . import workload

ROUNDS = 1 if workload.SMALL else 15
WARMUP = 0 if workload.SMALL else 2

# Where the upper quartile of a row's ratios is this far from their median, something else used the
# machine, and the row says so.
NOISY = 1.2

skipped = []  # rows of cases that could not run here; conftest puts them in the JSON


@dataclasses.dataclass(frozen=True)
class Case:
    """What a row of the tables says about a case before it has run."""

    table: str
    name: str
    count: int = 1  # operations in a round; times are per operation
    target: float | None = None
    aim: float | None = None
    yardstick: str = "C loop"
    instead: bool = False  # not jrnl: what a user would write or pick instead
    killed: str = ""  # on disk: what of it survives SIGKILL,
    power: str = ""  # and what survives a loss of power


def row(case, value, yardstick=None, ratios=(), unit="ns", note=""):
    """A row as the JSON keeps it: numbers with their unit, formatted only when printed.

    With a yardstick a row says itself when it is noisy.
    """
    result = dataclasses.asdict(case) | {"value": value, "unit": unit, "note": note}
    if yardstick is not None:
        ratios = sorted(ratios) or [value / yardstick]
        result |= {
            "yardstick_value": yardstick,
            "ratio": statistics.median(ratios),
            "ratio_low": ratios[len(ratios) // 4],
            "ratio_high": ratios[-1 - len(ratios) // 4],
        }
        if is_noisy(result):
            result["note"] = f"{note}; noisy" if note else "noisy"
    return result


def is_noisy(result):
    """Whether a row's rounds were too far apart for its ratio to say much."""
    return result["ratio_high"] > NOISY * result["ratio"]


def keep(benchmark, *rows):
    """Put rows into the case's extra_info, from where they reach the JSON and the tables."""
    benchmark.extra_info.setdefault("rows", []).extend(rows)


def skip(case, reason):
    """Skip the running test; its row says why."""
    skipped.append(dataclasses.asdict(case) | {"note": reason})
    print(f"{case.name}: {reason}")
    pytest.skip(reason)


def clocked(function, *arguments):
    """The nanoseconds of one call, for a yardstick not in C. Its result is dropped later."""
    start = time.perf_counter_ns()
    result = function(*arguments)
    lap = time.perf_counter_ns() - start
    del result
    return lap


def race(
    benchmark,
    case,
    ours,
    *,
    yardstick=None,
    afterwards=False,
    prepare=None,
    arm=None,
    disarm=None,
    rounds=None,
):
    """Measure `ours` by `yardstick`, round by round in turn.

    Parameters
    ----------
    ours : callable(*work)
        The timed call. pytest-benchmark holds the clock.
    yardstick : callable(*work) -> int or float
        Does the same work and returns its own nanoseconds. Runs before each round of ours.
    afterwards : bool
        The yardstick runs after each round of ours: it goes on with what ours has made.
    prepare : callable(round number) -> tuple
        The round's work, the same for both. Not timed.
    arm, disarm : callable(*work)
        Just before and just after each round of ours. Not timed.
    """
    yardstick_ns, armed = [], []
    numbers = itertools.count()

    def finish():  # pedantic's own teardown is younger than 4.0, and left out when disabled
        if not armed:
            return
        work = armed.pop()
        if yardstick and afterwards:
            yardstick_ns.append(yardstick(*work))
        if disarm:
            disarm(*work)

    def setup():
        finish()
        work = prepare(next(numbers)) if prepare else ()
        if yardstick and not afterwards:
            yardstick_ns.append(yardstick(*work))
        if arm:
            arm(*work)
        armed.append(work)
        return work, {}

    rounds = 1 if workload.SMALL else rounds or ROUNDS
    benchmark.pedantic(ours, setup=setup, rounds=rounds, warmup_rounds=WARMUP)
    finish()
    if benchmark.disabled:
        return None
    laps_ns = [lap * 1e9 for lap in benchmark.stats.stats.data]
    result = row(case, statistics.median(laps_ns) / case.count)
    if yardstick:
        yards_ns = yardstick_ns[-rounds:]
        yard = statistics.median(yards_ns)
        result = row(
            case,
            result["value"],
            yard / case.count,
            [lap / yard for lap, yard in zip(laps_ns, yards_ns, strict=True)],
        )
    keep(benchmark, result)
    return result
