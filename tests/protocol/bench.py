"""Random lives of a toy store, and every crash that the disk allows at every operation.

`python -m tests.protocol.bench --seed 5 --op 120 --state 7` replays one state, with the --states
and --inner of the run that failed.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from tests.protocol.disk import SECTOR, Disk, crash_choices
from tests.protocol.layout import SUPER, unpack_super
from tests.protocol.model import Failure, Model, OrderOracle
from tests.protocol.opening import Store, create
from tests.protocol.store import RING, SECTORS, VOLUMES, NotFound, StorePoisoned

OPS = ("write",) * 6 + ("flush", "flush", "append", "commit", "start", "finish", "copy", "copy")
RARE = ("snapshot", "fold", "rewind", "restore", "close")
# The kinds of life: all alike, copies that take long, back and forth.
KINDS = (
    OPS + RARE,
    ("write",) * 6 + ("flush", "append", "start", "finish", "snapshot", "copy", "rewind", "fold"),
    ("write",) * 4 + ("flush", "start", "finish", "rewind", "restore", "restore"),
)


class Crash(Exception):
    """The life ends here; `disk` is what the next one finds."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk


@dataclass(frozen=True)
class Plan:
    """How much to look at. Everything else follows from the seed."""

    seed: int = 0
    images: str = "both"
    off: frozenset[str] = frozenset()
    lives: int = 3
    length: int = 40  # calls in a life
    exhaustive: int = 4  # all subsets of up to so many unsynced changes
    states: int = 12  # looked at for each operation, chosen evenly where there are more
    inner: int = 2  # looked at for each operation of an opening after a crash
    order: bool = True  # whether the order oracle watches
    only: tuple[int, int] | None = None  # (operation, state): look at this one alone
    ops: tuple[str, ...] = ()  # what a host does; without any, one of KINDS by the seed
    script: tuple[str, ...] = ()  # what a host does, once and in this order, instead of `ops`
    fail: float = 0.3  # how often a life has a sync that fails


class Bench:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.rng = plan, random.Random(plan.seed)
        self.ops = plan.ops or KINDS[plan.seed % len(KINDS)]
        self.disk, self.model = Disk(), Model()
        self.order = OrderOracle(self.model)
        self.store: Store | None = None
        self.op = self.state = 0
        self.created = False
        self.crash_at = -1
        self.seen: set[bytes] = set()
        self.counts: Counter[str] = Counter()

    # -- lives

    def run(self) -> Counter[str]:
        with_context = f"seed {self.plan.seed}"
        try:
            for life in range(self.plan.lives):
                with_context = f"seed {self.plan.seed} life {life}"
                self.crash_at = self.op + self.rng.randrange(10, 150)
                if self.plan.script:
                    self.crash_at = -1
                self.disk.before = self.boundary
                with suppress(Crash, StorePoisoned):
                    self.life()
                self.next_life()
        except Exception as error:
            where = f"{with_context} --op {self.op} --state {self.state}"
            raise Failure(f"{where}: {type(error).__name__}: {error}") from error
        self.counts["distinct"] = len(self.seen)
        return self.counts

    def life(self) -> None:
        if not self.created:
            create(self.disk, "s", self.plan.off, images=self.plan.images)
            self.created = True
        if self.rng.random() < self.plan.fail:
            mode = self.rng.choice(("keep", "revert", "late"))
            self.disk.fail = (self.disk.syncs + self.rng.randrange(25), mode)
        self.store = None
        self.store = Store.open(self.disk, "s", self.plan.off)
        self.opened(self.store)
        random_ops = (self.rng.choice(self.ops) for _ in range(self.plan.length))
        for op in self.plan.script or random_ops:
            getattr(self, f"do_{op}")()
            self.check_reader()

    def opened(self, store: Store) -> None:
        if store.damage:
            raise Failure(f"damage {store.damage} where there is none")
        self.model.worlds, self.model.evicting = [self.model.match(store)], False
        self.order.written = self.order.durable = store.seq

    def next_life(self) -> None:
        """The process is killed, or the power fails with some state of the disk."""
        if self.store and self.store.poisoned:
            with suppress(StorePoisoned):
                self.store.write(0, 0, b"x")
                raise Failure("a poisoned store takes writes")
        self.disk.before = self.disk.fail = None
        self.model.oldest = self.promised()
        if self.rng.random() < 0.35:
            self.counts["kills"] += 1
        else:
            choices = list(crash_choices(self.disk.changes, 3, 4, self.op))
            self.disk = self.disk.crashed(self.rng.choice(choices))
            self.order.everything_is_durable()
            self.counts["power cuts"] += 1
        self.created = self.created and self.disk.exists("s")

    def promised(self) -> int:
        return max(self.model.oldest, self.store.oldest() if self.store else 0)

    # -- every operation of the disk

    def boundary(self, *operation) -> None:
        self.op += 1
        if self.op == self.crash_at:
            raise Crash(self.disk)
        if self.plan.only is None or self.plan.only[0] == self.op:
            self.model.oldest = self.promised()
            for state, choice in self.chosen(self.disk, self.plan.states):
                self.state = state
                self.look(self.disk.crashed(choice), self.plan.inner)
            if self.created:
                self.look_damaged()
        if self.plan.order:
            self.order.see(*operation)

    def chosen(self, disk: Disk, limit: int):
        choices = crash_choices(disk.changes, self.plan.exhaustive, 6, self.op)
        if self.plan.only and disk is self.disk:
            yield from itertools.islice(
                enumerate(choices), self.plan.only[1], self.plan.only[1] + 1
            )
            return
        choices = list(choices)
        picked = range(len(choices))
        if len(choices) > limit:
            picked = sorted(random.Random(self.op).sample(picked, limit))
        for index in picked:
            yield index, choices[index]

    def look(self, disk: Disk, inner: int) -> None:
        """Open what a crash left, and hold it against the model; crash inside that, too."""
        acked = ",".join(f"{w.acked}:{len(w.states)}" for w in self.model.worlds)
        mark = disk.fingerprint() + acked.encode()
        self.counts["states"] += 1
        if mark in self.seen:
            return
        self.seen.add(mark)
        if inner:
            disk.before = lambda *_: self.look_inside(disk, inner)
        try:
            store = Store.open(disk, "s", self.plan.off)
        except NotFound:
            if self.created:
                raise Failure("a store that was there is gone") from None
            return
        if store.damage:
            raise Failure(f"damage {store.damage} where there is none")
        self.model.match(store)
        if inner:
            self.look(disk.crashed(("new",) * len(disk.changes)), 0)  # it opens twice alike

    def look_inside(self, disk: Disk, limit: int) -> None:
        for _, choice in self.chosen(disk, limit):
            self.counts["inside opening"] += 1
            self.look(disk.crashed(choice), 0)
        self.damage_super(disk.crashed(("new",) * len(disk.changes)), random.Random(self.op))

    # -- damage: one copy of the superblock, one sector of the log

    def look_damaged(self) -> None:
        rng = random.Random(self.op)
        disk = self.disk.crashed(("new",) * len(self.disk.changes))
        self.damage_super(disk, rng)
        if self.store and self.store.groups:
            self.damage_log(disk, rng)

    def damage_super(self, disk: Disk, rng: random.Random) -> None:
        data = disk.read("s/super")
        copies = [unpack_super(data[at : at + SUPER]) for at in (0, SUPER)]
        # One copy two generations back, and damage to the other, are two faults.
        if all(copies) and abs(copies[0]["gen"] - copies[1]["gen"]) < 2:
            copy = rng.randrange(2)
            self.counts["superblock damaged"] += 1
            self.look(self.damaged(disk, "s/super", copy * SUPER + rng.randrange(80)), 0)

    def damage_log(self, disk: Disk, rng: random.Random) -> None:
        groups = self.store.groups
        hit = rng.choice(groups)
        sector = rng.randrange(hit.position, hit.end) if rng.random() < 0.5 else hit.position
        byte = sector % RING * SECTOR + rng.randrange(80 if sector == hit.position else SECTOR)
        store = Store.open(self.damaged(disk, "s/log", byte), "s", self.plan.off)
        self.counts["log damaged"] += 1
        last = groups[-1].first if hit is groups[-1] else groups[-1].last
        if not store.damage:
            floor = min(self.model.now.acked, last - 1 if hit is groups[-1] else last)
            self.model.match(store, floor)

    def damaged(self, disk: Disk, path: str, byte: int) -> Disk:
        copy = disk.crashed(())
        content = copy.durable[copy.node(path)]
        content[byte] ^= 0x10
        for world in (copy.device, copy.cache):
            world[copy.node(path)] = content.copy()
        return copy

    # -- what a host does

    def check_reader(self) -> None:
        if self.store.state() != self.model.now.states[self.store.seq]:
            raise Failure("a reader sees something else than what was written")

    def some_point(self) -> int:
        self.do_flush()  # a flush may evict the point: it comes before the choice
        return self.rng.choice(self.store.points())

    def do_write(self) -> None:
        volume, rng = self.rng.randrange(VOLUMES), self.rng
        length = rng.choice((1, 100, 512, 512, 700))
        offset = rng.choice((rng.randrange(SECTORS) * SECTOR, rng.randrange(SECTORS * SECTOR)))
        length = min(length, SECTORS * SECTOR - offset)
        data = bytes([rng.randrange(3)]) * length if rng.random() < 0.2 else rng.randbytes(length)
        world, state = self.model.now, dict(self.model.now.states[self.store.seq])
        whole = bytearray(b"".join(state[volume, s] for s in range(SECTORS)))
        whole[offset : offset + length] = data
        for s in range(SECTORS):
            state[volume, s] = bytes(whole[s * SECTOR : (s + 1) * SECTOR])
        world.states[self.store.seq + 1] = state
        self.store.write(volume, offset, data)

    def do_flush(self) -> None:
        seq = self.store.flush()
        self.model.now.acked = max(self.model.now.acked, seq)

    def do_append(self) -> None:
        self.store.append()

    def do_commit(self) -> None:
        self.model.now.acked = max(self.model.now.acked, self.store.commit())

    def do_start(self) -> None:
        self.store.writeback_start()

    def do_finish(self) -> None:
        self.store.writeback_finish()

    def do_copy(self) -> None:
        self.store.copy_step()

    def do_snapshot(self) -> None:
        if len(self.model.now.snaps) > 3:
            return
        seq, name = self.store.seq, f"n{self.store.seq}"
        if name in self.model.now.snaps:
            return
        snaps = self.model.now.snaps | {name: seq}
        self.model.worlds.append(self.model.now.branch(acked=seq, snaps=snaps))
        self.store.snapshot(name)
        self.model.worlds = self.model.worlds[-1:]

    def do_fold(self) -> None:
        done = [(s, n) for n, (s, d) in self.store.doc["snaps"].items() if d == "done"]
        if not done or self.store.synced not in self.store.points():
            return
        name, to = min(done)[1], self.store.synced
        snaps = self.model.now.snaps | {name: to}
        self.model.worlds.append(self.model.now.branch(snaps=snaps))
        self.store.fold(to)
        folded = self.store.doc["snaps"][name][0] == to
        self.model.worlds = self.model.worlds[-1:] if folded else self.model.worlds[:1]

    def do_rewind(self) -> None:
        to = self.some_point()
        if self.plan.images != "both" or any(s > to for s in self.model.now.snaps.values()):
            return
        seq, states = self.store.seq + 1, self.model.now.states
        kept = {k: s for k, s in states.items() if k <= to} | {seq: states[to]}
        self.model.worlds.append(self.model.now.branch(states=kept, acked=seq))
        self.store.rewind(to)
        self.model.worlds = self.model.worlds[-1:]

    def do_restore(self) -> None:
        to, world, seq = self.some_point(), self.model.now, self.store.seq
        states, state = dict(world.states), dict(world.states[seq])
        for key in sorted(state):
            if state[key] != states[to][key]:
                state, seq = {**state, key: states[to][key]}, seq + 1
                states[seq] = state
        self.model.worlds.append(world.branch(states=states, acked=seq))
        self.model.evicting = True
        self.store.restore(to, self.rng.random() < 0.5)
        self.model.worlds, self.model.evicting = self.model.worlds[-1:], False

    def do_close(self) -> None:
        if self.rng.random() < 0.3:
            self.store.close()
            self.model.now.acked = self.store.seq
            raise Crash(self.disk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", default="both", choices=("both", "after"))
    parser.add_argument("--off", default="", help="rules to switch off, joined by commas")
    parser.add_argument("--op", type=int)
    parser.add_argument("--state", type=int, default=0)
    parser.add_argument("--states", type=int, default=12)
    parser.add_argument("--inner", type=int, default=2)
    parser.add_argument("--no-order", action="store_true")
    args = parser.parse_args()
    off, total = frozenset(filter(None, args.off.split(","))), Counter()
    for seed in range(args.seed, args.seed + args.seeds):
        only = None if args.op is None else (args.op, args.state)
        plan = Plan(seed, args.images, off, states=args.states, inner=args.inner, only=only,
                    order=not args.no_order)  # fmt: skip
        total += Bench(plan).run()
    print(dict(total))


if __name__ == "__main__":
    main()
