"""Runs: which actors meet, what may go wrong, and the end, at which all must be well."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jrnl.archive.ledger import Ledger
from tests.archive.sim.actors import Writer, collector, read_all, reader, stray, writer
from tests.archive.sim.archiving import (
    StateOracle,
    archiver,
    made_small,
    read_states,
    state_reader,
)
from tests.archive.sim.choose import Chance, Chooser, Every
from tests.archive.sim.doors import Door
from tests.archive.sim.oracle import must
from tests.archive.sim.retried import retried
from tests.archive.sim.world import Actor, Limits, World

CALM = Limits()


@dataclass(frozen=True)
class Case:
    """A few actors, all of whose orders are run."""

    writers: tuple[int, ...] = ()  # how often each one publishes
    collectors: tuple[int, ...] = ()
    readers: tuple[int, ...] = ()
    strays: tuple[int, ...] = ()
    limits: Limits = CALM
    lives: int = 1
    retries: bool = False  # those that ship, below them single requests

    def fill(self, world: World) -> None:
        for k, count in enumerate(self.writers):
            world.add(f"w{k}", writer(count), self.lives)
        for k, count in enumerate(self.collectors):
            world.add(f"c{k}", collector(count), self.lives)
        for k, count in enumerate(self.readers):
            world.add(f"r{k}", reader(count))
        for k, count in enumerate(self.strays):
            world.add(f"s{k}", stray(count))


CASES = {
    "two writers": Case((2, 2)),
    "two writers, one fault": Case((1, 1), limits=Limits(faults=1)),
    "two writers, a crash": Case((1, 1), limits=Limits(crashes=1), lives=2),
    "two writers, stale listings": Case((1, 1), limits=Limits(stale=2)),
    "a writer, a collector": Case((3,), (2,), limits=Limits(longs=2)),
    "a writer, a collector, a fault": Case((2,), (1,), limits=Limits(longs=1, faults=1)),
    "a writer, a reader, a collector": Case((2,), (1,), (1,), limits=Limits(longs=1)),
}


LONE = Case((5,), limits=Limits(faults=8, fault=0.4, land=0.5))  # and a store that answers badly


def drawn(rng: random.Random) -> Case:
    """Return a case for a random run."""
    lives, retries = rng.choice((1, 2)), rng.random() < 0.3
    if rng.random() < 0.2:
        return Case(**_sleepy(rng), lives=lives, retries=retries)
    collectors = tuple(rng.randint(1, 2) for _ in range(rng.choice((0, 1, 1))))
    limits = Limits(
        faults=rng.choice((0, 1, 3, 8)),
        crashes=rng.choice((0, 0, 1, 2)),
        shorts=rng.choice((0, 0, 3)),
        longs=rng.choice((0, 2, 4)) if collectors else 0,
        stale=rng.choice((0, 2, 8)),
        fault=rng.choice((0.05, 0.3)),
        crash=rng.choice((0.03, 0.1)),
        time=rng.choice((0.03, 0.1, 0.3)),
        land=rng.choice((0.02, 0.1, 0.5)),
        lag=rng.choice((0.3, 1.0)),
        stick=rng.choice((1.0, 2.0, 8.0, 30.0)),
        slow=rng.random() < 0.5,
    )
    return Case(
        tuple(rng.randint(1, 2) for _ in range(rng.choice((1, 2, 2, 3)))),
        collectors,
        tuple(rng.randint(1, 2) for _ in range(rng.choice((0, 0, 1)))),
        tuple(rng.randint(1, 4) for _ in range(rng.choice((0, 1)) if collectors else 0)),
        limits,
        lives,
        retries,
    )


def _sleepy(rng: random.Random) -> dict[str, Any]:
    """Return what has some sleep for longer than the grace period, while others collect."""
    limits = Limits(
        faults=rng.choice((0, 0, 2)),
        crashes=rng.choice((0, 0, 1)),
        longs=8,
        stale=rng.choice((0, 4)),
        fault=0.05,
        crash=0.03,
        time=rng.choice((0.1, 0.2, 0.4)),
        land=0.1,
        stick=rng.choice((2.0, 8.0)),
        slow=True,
    )
    return {
        "writers": tuple(rng.randint(2, 4) for _ in range(rng.choice((1, 2, 3)))),
        "collectors": tuple(rng.randint(2, 4) for _ in range(rng.choice((1, 2)))),
        "readers": tuple(rng.randint(1, 2) for _ in range(rng.choice((0, 0, 1)))),
        "strays": (rng.randint(2, 5),),
        "limits": limits,
    }


def run(case: Case, chooser: Chooser, tell: bool = False) -> World:
    """Run a case once, to its end and beyond."""
    world = World(chooser, case.limits, tell)
    world.door = retried if case.retries else Door
    case.fill(world)
    world.run()
    if not world.over:
        world.calm()
        world.add("end", end)
        world.run()
    return world


def end(actor: Actor) -> None:
    """Whatever has happened, who comes now writes, and reads all that there is."""
    world = actor.world
    world.oracle.end()
    before = world.counts["acknowledged"]
    Writer(actor, 1).live()
    must(world.counts["acknowledged"] == before + 1, "a lone writer does not get on")
    manifest = Ledger(world.objects(actor), writer="0").look()
    assert manifest is not None
    must(manifest == world.oracle.line.newest, "the newest manifest is not found")
    read_all(actor, manifest, world.clock())


def at_random(seed: int, tell: bool = False) -> World:
    return run(drawn(random.Random(f"case {seed}")), Chance(seed), tell)


def every_way(case: Case, most: int, each: Callable[[World, Every], bool]) -> Every:
    """Run a case in every way, until `each` is content, or `most` runs are over."""
    chooser = Every()
    count = 0
    while count < most and chooser.another():
        count += 1
        if each(run(case, chooser), chooser):
            break
    return chooser


def archiving_at_random(seed: int, tell: bool = False) -> World:
    """A random run with the writer that ships."""
    rng = random.Random(f"archiving {seed}")
    case = LONE if rng.random() < 0.15 else drawn(rng)
    world = World(Chance(seed), case.limits, tell, StateOracle)
    world.door = retried if case.retries else Door
    keep_s = rng.choice((None, None, 0, 50))
    with made_small():
        for k, count in enumerate(case.writers):
            world.add(f"w{k}", archiver(2 * count, keep_s), case.lives)
        replace(case, writers=(), readers=()).fill(world)
        for k, count in enumerate(case.readers):
            world.add(f"r{k}", state_reader(count))
        world.run()
        if not world.over:
            world.calm()
            world.add("end", archiving_end)
            world.run()
    return world


def archiving_end(actor: Actor) -> None:
    """Whoever comes now archives, and every state can be read."""
    world = actor.world
    world.oracle.end()
    archiver(2)(actor)
    manifest = Ledger(world.objects(actor), writer="0").look()
    assert manifest is not None
    must(manifest == world.oracle.line.newest, "the newest manifest is not found")
    must(world.oracle.owners[manifest.epoch] == manifest.writer, "a lone writer does not get on")
    read_states(actor, manifest, world.clock())
