"""A snapshot of a whole volume, by a plain copy of the same array."""

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import JOURNAL, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)


def test_snapshot(benchmark):
    case = Case(tables.SNAPSHOT, "`snapshot`", target=1.15, yardstick="np.copy")
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)
        array = store.volume.as_array()
        taken = []
        race(
            benchmark,
            case,
            lambda: taken.append(store.snapshot("bench")),
            yardstick=lambda: clocked(np.copy, array),
            disarm=lambda: taken.pop().delete(),
        )
