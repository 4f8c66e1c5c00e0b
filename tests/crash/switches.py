"""The bench is tested, too: what happens when the store lacks one sync, checksum, bound or check.

Each switch removes one of them (`removed.py`); what is named beside it has to notice, for the
reason that is given, and to notice nothing where the rule is in place. Scripts are the bench's
operations: all their crash states are looked at until the first failure. Damages are those of
`damage.py`. Cases that neither reaches are built by hand in `directed.py`.

    python -m tests.crash.switches NAME       show how a missing rule is noticed
    python -m tests.crash.switches --table    print the table that stands in docs/testing.md

Rules of the core need the build for it: `.venv-sabotage/bin/python` (`make sabotage` makes it).
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

from jrnl import snapshot_copier
from jrnl.disk import folder, scan, session, superblock
from jrnl.disk import open as opening
from jrnl.disk.load import Loader
from jrnl.disk.record import Record
from tests.crash import bench, damage, directed, meetings
from tests.crash import removed as off
from tests.crash.bench import Bench, Plan, Result, Stop
from tests.crash.disk import SimDisk
from tests.crash.removed import core, log_with, nothing, replaced, syncs_of
from tests.crash.workload import Shape

KEEPER, SUPER = session.DiskSession, superblock.Superblock
TARGET = ("write_sectors", "snapshot", "copy", "write_inside", "flush", "write_sectors",
          "flush")  # fmt: skip


class EveryStep(Bench):
    """Looks at the crash states of every operation of a sequence, not of the last one alone.

    Ends at the first failure that says what is wanted.
    """

    looks = property(lambda self: True, lambda self, value: None)
    says = ""

    def _fail(self, error: object, where: str) -> None:
        super()._fail(error, where)
        if re.search(self.says, self.result.failures[-1]):
            raise Stop


def the_one(failures: list[str], says: str) -> str:
    """Return the first failure that says this, or the first one."""
    return next((f for f in failures if re.search(says, f)), failures[0] if failures else "")


@cache
def fresh(shape: Shape) -> tuple[object, object]:
    return bench.fresh(shape)


@dataclass(frozen=True)
class Script:
    """Operations on a fresh store; `write*3` is three writes."""

    text: str
    always: bool = False  # sync="always"
    fold: bool = False  # overflow="fold"
    states: int = 10
    damaged: float = Plan.damaged
    reads: float = Plan.reads
    go_on: float = Plan.go_on

    @property
    def names(self) -> tuple[str, ...]:
        words = (word.partition("*") for word in self.text.split())
        return tuple(name for name, _, times in words for _ in range(int(times or 1)))

    def run(self, removed: off.Removed, says: str = "") -> str:
        shape = Shape(sync="always" if self.always else "flush",
                      overflow="fold" if self.fold else "evict")  # fmt: skip
        result = Result()
        plan = Plan(shape=shape, sequence=self.names, states=self.states, failures=30,
                    damaged=self.damaged, reads=self.reads, go_on=self.go_on)  # fmt: skip
        base, bench_run = fresh(shape), EveryStep(plan, result)
        bench_run.says = says
        with removed:
            bench_run.run_sequence(*base)
        return the_one(result.failures, says)

    def __str__(self) -> str:
        always = 'sync="always"; ' if self.always else ""
        fold = 'overflow="fold"; ' if self.fold else ""
        return f"{always}{fold}`{self.text}`"


@dataclass(frozen=True)
class Creation:
    """The crash states of a creation, and of the first operation."""

    def run(self, removed: off.Removed, says: str = "") -> str:
        result = Result()
        with removed:
            Bench(Plan(lives=1, length=1, failures=30), result).run_lives()
        return the_one(result.failures, says)

    def __str__(self) -> str:
        return "creation"


@cache
def target() -> damage.Target:
    return damage.Target(Shape(), names=TARGET)


@dataclass(frozen=True)
class Damage:
    """A bit of a closed store flips."""

    case: str

    def run(self, removed: off.Removed, says: str = "") -> str:
        closed = target()
        with removed:
            return failure_of(lambda: closed.check(damage.Case.parse(self.case)))

    def __str__(self) -> str:
        return f"damage `{self.case}`"


@dataclass(frozen=True)
class Directed:
    """A case that is built by hand."""

    case: Callable[[], None]

    def run(self, removed: off.Removed, says: str = "") -> str:
        with removed:
            return failure_of(self.case)

    def __str__(self) -> str:
        module = self.case.__module__.rpartition(".")[2]
        return f"`{module}.{self.case.__name__}`"


def failure_of(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        lines = [f"        {f.filename}:{f.lineno} {f.name}: {f.line}" for f in frames]
        return "\n".join([f"    {type(error).__name__}: {error}", *lines])
    return ""


@dataclass(frozen=True)
class Switch:
    """A rule that can be removed.

    Attributes
    ----------
    rule : str
        Which of the rules of docs/durability.md.
    what : str
        What is done instead.
    removed : callable
        Gives a context within which the rule does not hold.
    case : Script, Creation, Damage or Directed
        What has to notice.
    says : str
        What the failure must say: a regular expression.
    covered : str
        Why nothing can notice that this rule alone is missing. Such a switch doesn't count.
    """

    rule: str
    what: str
    removed: Callable[[], off.Removed]
    case: Script | Creation | Damage | Directed
    says: str = ""
    covered: str = ""


WRAPS = Script("fill*3", states=4)
SNAPSHOT = Script("write_sectors snapshot")
COPY = Script("write_sectors snapshot write_sectors copy")
FOLDS = Script("fill snapshot fill", fold=True, states=6)
STRICT = Script("write_sectors*3 flush restore", always=True)
REWINDS = Script("write_inside flush " * 5 + "rewind flush")

DISK = {
    "log_sync": Switch(
        "R3", "the log's syncs do nothing",
        lambda: syncs_of("log"),
        Script("write_sectors flush"), "acknowledged 2, found 0"),
    "super_sync": Switch(
        "R7", "the superblocks' syncs do nothing",
        lambda: syncs_of("super"),
        SNAPSHOT, r"super\.\d (is no superblock|does not match its checksum)"),
    "volume_sync": Switch(
        "R5", "the volumes' syncs do nothing",
        off.volume_syncs,
        Script("write_sectors reopen"), "production is not state 1"),
    "copy_sync": Switch(
        "R10", "the syncs of a snapshot's images do nothing",
        lambda: syncs_of("snapshot-", suffix=".img"),
        COPY, "ends too early|the snapshot does not match"),
    "sums_sync": Switch(
        "R10", "the syncs of a snapshot's checksums do nothing",
        lambda: syncs_of("snapshot-", suffix=".sums"),
        COPY, "the snapshot does not match its checksum"),
    "patches_sync": Switch(
        "R10", "the syncs of a recovery's patches do nothing",
        lambda: syncs_of("recovery-"),
        Script("write_sectors flush write_sectors restore"), "recovery 1: "),
    "folder_sync": Switch(
        "R10", "the syncs of the store's folder do nothing",
        lambda: off.folder_syncs("s"),
        COPY, "is missing|ends too early"),
    "create_files": Switch(
        "R11", "creation does not sync the files",
        off.created_file_syncs,
        Creation(), "has 0 bytes|ends too early|is no superblock"),
    "create_folder": Switch(
        "R11", "creation does not sync the store's folder",
        lambda: off.folder_syncs(off.CREATING),
        Creation(), "is missing|is no store"),
    "create_parent": Switch(
        "R11", "creation does not sync the folder above",
        off.parent_syncs,
        Creation(), "No such file or directory: 's'"),
    "create_rename": Switch(
        "R11", "the store is created under its own name",
        off.created_in_place,
        Creation(), "is missing|is no store|is no superblock|has 0 bytes|ends too early"),
    "whole_sectors": Switch(
        "R2", "what a volume's sector has already is left out of what is written to it",
        off.parts_of_sectors,
        Script("write_inside reopen"), "is not whole sectors"),
    "pack_groups": Switch(
        "R3", "blocks of the log with acknowledged bytes are written again",
        off.groups_joined,
        Script("write_sectors flush write_sectors flush"), r"acknowledged \d+, found"),
    "open_log_sync": Switch(
        "R8", "opening takes the log's tail without a sync of it",
        lambda: off.opening_without_syncs("log"),
        Directed(directed.killed_before_log_sync), "was served after reopening, then was gone"),
    "super_sync_open": Switch(
        "R7", "opening does not sync the superblocks that it has read",
        off.heal_without_sync,
        Directed(directed.killed_in_superblock), "no superblock is left"),
    "direct": Switch(
        "R9", "opening believes the page cache after a failed sync",
        lambda: replaced(SimDisk, "drop_cache", nothing),
        Directed(directed.pages_that_never_reach_the_disk),
        "was served after reopening, then was gone"),
    "index_sync": Switch(
        "R4", "the index's syncs do nothing",
        lambda: syncs_of("index"),
        Script("write_sectors flush reopen write_sectors reopen"),
        covered="the index is derived: its checksums tell, and it is made again from the log"),
    "open_volume_sync": Switch(
        "R5", "opening does not sync the volumes",
        lambda: off.opening_without_syncs("v"),
        Script("write_sectors reopen write_sectors flush reopen"),
        covered="redo writes again all that is not known to be synced"),
}  # fmt: skip

CORE = {
    "image_sum": Switch(
        "R3", "images are taken without their checksum",
        lambda: core("image_sum"),
        Script("write_sectors*2 flush"), "production is not state"),
    "group_sum": Switch(
        "R3", "groups are taken without their header's checksum",
        lambda: core("group_sum"),
        Directed(directed.damaged_group_header), "no problem is told"),
    "headers_sum": Switch(
        "R3", "groups are taken without the checksum of their entries' headers",
        lambda: core("headers_sum"),
        Directed(directed.damaged_entry_header), "no problem is told, and production is refused"),
    "entry_sum": Switch(
        "R3", "the entries of a damaged group are taken without their own checksum",
        lambda: core("entry_sum"),
        Directed(directed.damaged_entry_header), "production is not state"),
    "index_sum": Switch(
        "R4", "the index is taken without its checksums",
        lambda: core("index_sum"),
        Damage("bit:index:4177:1"),
        covered="a header is held against its sum again when it is used, and has to fit"),
    "index_total": Switch(
        "R19", "the index is taken without the sum of all of it",
        lambda: core("index_total"),
        Directed(directed.stale_index), "comes back wrong"),
    "entry_fits": Switch(
        "R19", "entry headers are not held against bounds",
        lambda: core("entry_fits"),
        Directed(directed.forged_index), "comes back wrong"),
    "cut_slot": Switch(
        "R15", "what a rewind dropped is found by walking headers",
        lambda: core("cut_slot"),
        Directed(directed.damaged_header_before_rewind), "was dropped by a rewind, and is back"),
    "copy_sum": Switch(
        "R10", "a snapshot's blocks are taken without their checksums",
        lambda: core("copy_sum"),
        Damage("bit:snapshot-1-0.img:0:7"), "came back wrong"),
    "sums_sum": Switch(
        "R10", "a snapshot's checksums are taken without their own",
        lambda: core("sums_sum"),
        Directed(directed.exchanged_snapshots), "is another one now"),
    "seed_key": Switch(
        "R3", "checksums without the store's key",
        lambda: core("seed_key"),
        Directed(directed.foreign_ring), "a group of another store was taken"),
    "seed_epoch": Switch(
        "R7", "checksums without the epoch",
        lambda: core("seed_epoch"),
        Directed(directed.repeated_write), "a write that a crash had undone comes back"),
    "seed_place": Switch(
        "R3", "checksums without the group's number and position",
        lambda: core("seed_number", "seed_position"),
        WRAPS, "does not match its checksum"),
    "seed_number": Switch(
        "R3", "checksums without the group's number",
        lambda: core("seed_number"),
        WRAPS, covered="within an epoch the position fixes the number"),
    "seed_position": Switch(
        "R3", "checksums without the group's position",
        lambda: core("seed_position"),
        WRAPS, covered="within an epoch the number fixes the position"),
    "record_first": Switch(
        "R8", "a group is written back that nothing else records",
        lambda: core("record_first"),
        Directed(directed.damaged_group_in_write_back), "no problem is told: acknowledged 2"),
    "commit_first": Switch(
        "R1", "entries are written back before the log has them",
        lambda: core("commit_first"),
        Script("write_sectors*3 restore"), "was written before its entry was durable"),
    "tail_first": Switch(
        "R6", "log blocks are used again before the superblocks name the new tail",
        lambda: core("tail_first"),
        WRAPS, "does not match its checksum"),
    "evict_synced": Switch(
        "R6", "entries are evicted that the volumes have not got",
        lambda: core("evict_synced"),
        Directed(directed.evicted_after_reopening), "production is not state"),
    "log_bound": Switch(
        "R6", "the log goes on over its own tail",
        lambda: core("log_bound"),
        WRAPS, r"entry \d+ does not match its checksum"),
    "ram_bound": Switch(
        "R5", "memory is used again that holds what the volumes have not got",
        lambda: core("ram_bound"),
        Directed(directed.long_writes), "entry 1 does not match its checksum"),
    "undo_intent": Switch(
        "R10", "rewind puts volumes back without a durable intent",
        lambda: core("undo_intent"),
        Script("write_sectors*3 reopen rewind"), "production is not state 3"),
    "undo_sync": Switch(
        "R10", "rewind is recorded as done before the volumes are synced",
        lambda: core("undo_sync"),
        Script("write_sectors flush write_many reopen rewind"), "production is not state 6"),
    "named_seq": Switch(
        "R10", "groups name a volume-synced seq that the superblocks do not name yet",
        lambda: core("named_seq"),
        Directed(directed.rewind_of_what_no_superblock_names), "production is not state"),
    "tried_seq": Switch(
        "R10", "rewind writes back what the volumes' files have still",
        lambda: core("tried_seq"),
        Directed(directed.rewind_of_what_no_file_has), "production is not state"),
    "fold_sync": Switch(
        "R10", "a fold is recorded before what it writes is synced",
        lambda: core("fold_sync"),
        FOLDS, r"snapshot n-1 is not state|the snapshot does not match its checksum"),
    "poison": Switch(
        "R9", "a failed sync is tried again",
        lambda: core("poison"),
        Directed(directed.poisoned), "after a failed sync it is tried again"),
    "intent_durable": Switch(
        "R13", "a fold's intent names entries that are not durable",
        lambda: core("intent_durable"),
        Directed(directed.restore_that_folds), "is lost|is not its state"),
    "batch": Switch(
        "R9", "a call of several entries leaves those that were made when one fails",
        lambda: core("batch"),
        Directed(directed.batches_that_fail), "has left half"),
    "fork": Switch(
        "R12", "a forked child may write",
        lambda: core("fork"),
        Directed(directed.forked_child), "a forked child has written"),
}  # fmt: skip

PYTHON = {
    "super_sync_between": Switch(
        "R7", "both superblock copies are written, then both are synced",
        lambda: replaced(SUPER, "write", off.put_both_then_sync),
        SNAPSHOT, r"super\.\d (is no superblock|does not match its checksum)"),
    "super_both": Switch(
        "R7", "only one superblock copy is written, in turn",
        lambda: replaced(SUPER, "write", off.put_one_in_turn),
        Directed(directed.damaged_superblock), r"snapshots \{\}, expected"),
    "super_sum": Switch(
        "R7", "superblocks are taken without their checksum",
        off.super_sum,
        Directed(directed.damaged_superblock), "newer version|the superblock says"),
    "super_version": Switch(
        "F", "the format's version and features are not looked at",
        off.super_version,
        Directed(directed.newer_format), "a store of a newer format was opened"),
    "check_head": Switch(
        "F", "the start of the log's file is not looked at",
        lambda: replaced(opening, "check_head", lambda *_: True),
        Directed(directed.foreign_log), "the log of another store was taken"),
    "late_ack": Switch(
        "R5", "a sync answers for entries written after it began",
        off.late_acknowledgement,
        Directed(meetings.flush_during_a_sync), r"acknowledged \d+, found"),
    "clean": Switch(
        "R8", "the superblocks go on saying that the store was closed",
        off.stays_clean,
        Script("write_sectors flush"), "acknowledged 2, found 0"),
    "open_epoch": Switch(
        "R7", "opening begins no new epoch",
        off.no_new_epoch,
        Directed(directed.repeated_write), "a write that a crash had undone comes back"),
    "epoch_table": Switch(
        "R7", "a group is taken under the epoch that it names itself",
        off.epoch_of_group,
        REWINDS, r"the log is damaged|entry \d+ does not match"),
    "epoch_order": Switch(
        "R7", "a group is taken if epochs do not decrease",
        off.epoch_in_order,
        REWINDS, r"the log is damaged|entry \d+ does not match"),
    "epoch_first": Switch(
        "R7", "every group is taken to be of the oldest epoch",
        lambda: replaced(Record, "epoch_at", lambda self, number: self.epochs[0][0]),
        Script("write_sectors flush reopen write_sectors flush"), "acknowledged 4, found 2"),
    "drops": Switch(
        "R15", "the superblocks' record of what rewinds dropped is not looked at",
        lambda: replaced(scan.Scan, "_cut", nothing),
        Directed(directed.damaged_rewind), "was dropped by a rewind, and is back"),
    "room": Switch(
        "R17", "names may take all the room of a superblock",
        lambda: replaced(KEEPER, "check_room", nothing),
        Directed(directed.full_superblock), "took more than a superblock's room for names"),
    "probe": Switch(
        "R8", "no look for later groups behind an invalid one",
        lambda: replaced(scan.Scan, "_later_group", nothing),
        Directed(directed.damaged_first_group), "no problem is told: acknowledged 4, found 0"),
    "watermark": Switch(
        "R8", "the superblocks' count of durable groups is not looked at",
        off.no_watermark,
        Directed(directed.damaged_recorded_group), "no problem is told: acknowledged 1, found 0"),
    "put_rewound": Switch(
        "R10", "a rewind that only the superblocks know of is not entered again",
        lambda: log_with(put_rewound=nothing),
        Script("write_many*3 flush rewind"), r"acknowledged \d+, found"),
    "undo_resumed": Switch(
        "R10", "opening leaves an interrupted rewind as it is",
        lambda: log_with(set_undo=nothing, undo=nothing),
        Script("write_many*3 reopen rewind"), "production is not state"),
    "show_undone": Switch(
        "R10", "opening for reading shows an interrupted rewind as it is",
        lambda: replaced(opening, "_show", nothing),
        Script("write_many*3 reopen rewind", reads=1), "opened for reading it is at"),
    "restore_intent": Switch(
        "R10", "restore writes entries without a durable intent",
        off.restore_without_intent,
        STRICT, "was done in part"),
    "restore_resumed": Switch(
        "R10", "opening forgets an interrupted restore",
        off.restore_forgotten,
        STRICT, "was done in part"),
    "restore_ends": Switch(
        "R10", "a restore's intent is dropped before its entries are durable",
        off.restore_ends_early,
        Script("write_sectors*3 flush restore"), "acknowledged 6, found 4"),
    "fold_intent": Switch(
        "R10", "fold writes over a snapshot without a durable intent",
        off.fold_without_intent,
        FOLDS, r"snapshot n-1 is not state|the snapshot does not match its checksum"),
    "fold_resumed": Switch(
        "R10", "opening leaves an interrupted fold as it is",
        lambda: replaced(Loader, "_finish_fold", lambda self, row, image: image),
        FOLDS, r"snapshot n-1 is not state|the snapshot does not match its checksum"),
    "snapshot_commit": Switch(
        "R10", "a snapshot does not make durable what it is a copy of",
        off.snapshot_uncommitted,
        SNAPSHOT, "acknowledged 1, found 0"),
    "copy_whole": Switch(
        "R10", "the superblocks call a snapshot's copy whole before it is durable",
        off.copy_whole_first,
        COPY, "is missing|ends too early|does not match"),
    "copy_resumed": Switch(
        "R10", "an interrupted copy goes on with what there is of its files",
        off.copy_goes_on,
        Script("write_sectors snapshot write_sectors copy", states=16),
        "the copy of snapshot|does not match its checksum"),
    "copy_state": Switch(
        "R10", "a copy gets what production holds by then",
        off.copied_as_it_is_now,
        COPY, "n-1 is not state"),
    "copy_rewound": Switch(
        "R10", "rewind drops what a copy under way needs",
        lambda: replaced(snapshot_copier.Copier, "finish_after", nothing),
        Script("write_many*3 snapshot rewind"), "needs an entry that this rewind would drop"),
    "copy_pinned": Switch(
        "R10", "entries leave the log that a copy under way needs",
        lambda: core("finish_copies"),
        Script("write_sectors snapshot fill*3", states=4), "ends too early"),
    "restore_folded": Switch(
        "R13", "opening takes back a restore over which a snapshot was brought on",
        lambda: replaced(KEEPER, "restore_is_folded", lambda self: False),
        Directed(directed.restore_that_folds), "is lost|is not its state"),
    "copy_named": Switch(
        "R10", "who names a snapshot takes its copy for unfinished, though it has just ended",
        off.named_by_its_image,
        Directed(directed.copies_that_end_in_any_order), "is lost|ends too early|never whole"),
    "copy_marked": Switch(
        "R10", "the mark at the end of a whole copy is not looked at",
        off.marks_not_looked_at,
        Directed(directed.copy_that_nobody_recorded), "a whole copy was given up"),
    "copy_extent": Switch(
        "R14", "a copy takes holes of production's file for zeroes of its own state",
        off.present_extent,
        Directed(directed.holes_in_production), "is not its state"),
    "open_known": Switch(
        "R19", "opening enters a REWIND before it knows the snapshots",
        off.rewound_first,
        Directed(directed.rewind_in_a_full_log), "is lost"),
    "create_owned": Switch(
        "R16", "a creation removes another one's folder, whoever has it locked",
        off.leftovers_by_name,
        Directed(directed.two_creations), "have made the store|is gone|No such file|FileNotFound"),
    "snapshot_deleted": Switch(
        "R10", "a snapshot's files go before the superblocks forget it",
        off.deleted_first,
        Script("write_sectors snapshot copy delete_snapshot"), "is missing|ends too early"),
    "strays": Switch(
        "R10", "what an interrupted snapshot has left is not removed",
        lambda: replaced(KEEPER, "remove_strays", nothing),
        Script("write_sectors snapshot copy delete_snapshot", go_on=1),
        covered="what makes a file removes one that has its name"),
    "copy_seed": Switch(
        "R10", "a copy's checksums are not seeded with its number",
        off.same_copy_seed,
        Directed(directed.exchanged_snapshots), "is another one now"),
    "patches_sum": Switch(
        "R10", "a recovery's patches are taken without their checksums",
        off.patches_sum,
        Directed(directed.damaged_patches), "a recovery of another state came back"),
    "patches_moved": Switch(
        "R10", "a recovery that has moved writes over the patches that it had",
        off.patches_in_place,
        Script("write_many*3 flush seek", states=12), "recovery 1"),
    "preserved_first": Switch(
        "R10", "entries leave the log before what a recovery preserves of them is saved",
        lambda: core("preserved_first"),
        Script("write_sectors*3 flush restore_kept fill*2", states=4),
        r"recovery \d+ of state \d+ is another one now|preserved production"),
    "preserved_sync": Switch(
        "R10", "what leaves the log is saved for a recovery without a sync",
        lambda: core("preserved_sync"),
        Script("write_sectors*3 flush restore_kept fill*2", states=16),
        "preserved production|does not match its checksum"),
    "preserved_rewind": Switch(
        "R10", "a rewind drops what a recovery preserves of it",
        lambda: core("preserved_rewind"),
        Script("write_sectors*3 flush restore_kept write_many rewind_under", states=4),
        r"recovery \d+ of state \d+ is another one now"),
    "preserved_sum": Switch(
        "R10", "what a recovery preserves is taken without its checksums",
        lambda: core("preserved_sum"),
        Directed(directed.damaged_preserved), "a recovery of another state came back"),
    "pin_commit": Switch(
        "R10", "a mark is pinned before its entry is durable",
        off.pinned_first,
        Script("write_sectors pin"), "the pinned mark 'p-1': its state 2 is lost"),
    "pin_record": Switch(
        "R10", "a mark is pinned in memory only",
        lambda: replaced(KEEPER, "pin_mark", nothing),
        Script("write_sectors pin flush"), r"pinned \[\], expected \['p-1'\]"),
    "pin_held": Switch(
        "R10", "opening does not take the pins up",
        lambda: replaced(KEEPER, "_pin_states", lambda _: {}),
        Script("write_sectors pin reopen fill*3", states=4), r"pinned \[\], expected \['p-1'\]"),
    "lock": Switch(
        "R12", "the folder is not locked",
        lambda: replaced(folder.Folder, "lock", nothing),
        Directed(directed.two_writers), "two have opened the store for writing"),
    "heal": Switch(
        "R7", "the older superblock copy stays as it is at opening",
        lambda: replaced(SUPER, "heal", nothing),
        Script("write_sectors snapshot", damaged=1),
        covered="opening syncs both, and writes both with the new epoch before anything else"),
    "super_order": Switch(
        "R7", "the newer superblock copy is written first",
        lambda: replaced(SUPER, "write", off.put_newest_first),
        Script("write_sectors snapshot", damaged=1),
        covered="opening makes both copies the same before it relies on one (`heal`)"),
}  # fmt: skip

SWITCHES: dict[str, Switch] = {**DISK, **CORE, **PYTHON}
COUNTED = [name for name, switch in SWITCHES.items() if not switch.covered]
COVERED = [name for name, switch in SWITCHES.items() if switch.covered]


def noticed(name: str) -> str:
    """Return how the missing rule is noticed, or nothing."""
    switch = SWITCHES[name]
    return switch.case.run(switch.removed(), switch.says)


@cache
def found_without(case: Script | Creation | Damage | Directed) -> str:
    """Return what the same search finds where every rule is in place: nothing."""
    return case.run(nullcontext())


def where(name: str, failure: str) -> str:
    """Return at which of the disk's operations, and in which state, a script failed."""
    if not isinstance(SWITCHES[name].case, Script | Creation):
        return ""
    words = failure.split("\n", maxsplit=1)[0].split()
    options = ("op", "state", "damage", "depth")
    found = [f"{o} {words[words.index(f'--{o}') + 1]}" for o in options if f"--{o}" in words]
    return ", " + ", ".join(found)


def said(name: str, failure: str) -> str:
    """Return the part of a failure that says what it had to."""
    text = re.search(r"^    .*?(?:Error|Failure|Point|str): (.*)", failure, re.M)
    parts = text[1].split("; ") if text else [failure]
    return next((part for part in parts if re.search(SWITCHES[name].says, part)), parts[0])


def shown(failure: str) -> str:
    """Return a failure without the bench's command, which would run with the rule in place."""
    lines = failure.split("\n")
    return "\n".join(line for line in lines if not line.startswith("python -m tests.crash.bench"))


def table() -> str:
    """Return the table for docs/testing.md."""
    rows = ["| switch | rule | what is done instead | noticed |", "|---|---|---|---|"]
    for name in COUNTED:
        switch, failure = SWITCHES[name], noticed(name)
        how = f"{switch.case}{where(name, failure)}: {said(name, failure)}"
        rows.append(f"| `{name}` | {switch.rule} | {switch.what} | {how} |")
    rows += ["", "Not counted, for another rule makes up for each of these:", ""]
    rows += ["| switch | rule | what is done instead | covered |", "|---|---|---|---|"]
    for name in COVERED:
        switch = SWITCHES[name]
        rows.append(f"| `{name}` | {switch.rule} | {switch.what} | {switch.covered} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=SWITCHES)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table())
    for name in [args.name] if args.name else [] if args.table else SWITCHES:
        switch, failure = SWITCHES[name], noticed(name)
        print(f"{name} ({switch.rule}): {switch.what}")
        print(f"  in {switch.case}")
        print(f"  with the rule: {found_without(switch.case) or 'nothing'}")
        print(f"  without it{where(name, failure)}:")
        print(shown(failure) if failure else f"    nothing: {switch.covered}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
