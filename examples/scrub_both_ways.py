"""Walk through a disk's history until another program is content. Run it:

python examples/scrub_both_ways.py

A recovery that is undoable moves forward and back, each step at the cost of the bytes between two
states. Its path shows the state that it stands on to any program that opens it: here grep, in
earnest e2fsck, a database's checker, or a read-only mount.
"""

import subprocess

import jrnl


def content_with(path: str) -> bool:
    """Whether a program that knows nothing of jrnl finds no damage on the disk."""
    return subprocess.run(["grep", "-q", "-a", "DAMAGE", path], check=False).returncode == 1


def main() -> None:
    store = jrnl.create(size="16MiB", journal="8MiB")
    for day in range(60):
        if day == 40:
            store.mark("day 40")
        note = b"DAMAGE" if day == 41 else b"record"
        store.volume.write(4096 * day, note + b" of day %d" % day)
    store.snapshot("today")

    # Fast to a state that is surely good, undoable from there: the latest good state is wanted.
    recovery = store.recover("day 40", undoable=True)
    path = recovery.path()
    seqs = store.journal.entries["seq"]
    later = seqs[seqs > recovery.seq].tolist()  # the states after it; a rewind leaves out seqs
    before, steps = recovery.seq, 0
    while content_with(path):
        before = recovery.seq
        recovery.seek(later[steps])  # the file at `path` follows, by what differs
        steps += 1
    recovery.seek(before)  # one too far
    print(f"good up to  state {recovery.seq}, {steps} steps after 'day 40'")
    assert content_with(path)
    assert steps == 2

    dry = recovery.restore(dry_run=True)
    print(f"to restore  {dry.bytes} bytes in {dry.last_seq - dry.first_seq + 1} entries")
    assert recovery.restore() == dry
    assert b"DAMAGE" not in store.volume.read(0, 4096 * 60)
    recovery.close()
    store.close()


if __name__ == "__main__":
    main()
