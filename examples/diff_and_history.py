"""Who wrote this block, when, and what was there before? Run it:

python examples/diff_and_history.py

Two programs share a volume. One of them writes where the other one's records are.
"""

from datetime import UTC, datetime

import jrnl

RECORD = 64


def main() -> None:
    store = jrnl.create(size="1MiB", journal="1MiB")
    volume = store.volume
    for number in range(100):
        volume.write(number * RECORD, f"record {number}".encode().ljust(RECORD, b"."))
    good = store.mark("good")
    volume.write(512 * 1024, b"a log line, where it belongs")
    stray = volume.write(40 * RECORD + 20, b"a log line, where it does not")

    # Which blocks have to be looked at since the mark? The journal's headers tell; nothing is read.
    for _, offset, length in store.diff(good, store.seq):
        print(f"changed    {length} bytes at {offset}")
    damaged = store.diff(good, store.seq)[0]

    # Who wrote in the first of them, and what was there?
    entries = store.history(int(damaged["offset"]), int(damaged["length"]))
    for entry in entries:
        when = datetime.fromtimestamp(int(entry["time_ns"]) / 1e9, UTC)
        before = store.journal.before(int(entry["seq"]))
        print(f"history    entry {entry['seq']} at {when:%H:%M:%S}, over {before[:10]!r}...")
    assert entries["seq"].tolist() == [41, stray]

    # What the day took: how much was written, how much of it over again.
    stats = store.stats(since=good)
    print(f"stats      {stats.writes} writes, {stats.bytes} bytes, {stats.journal_bytes} journaled")
    assert (stats.writes, stats.rewritten_bytes) == (2, 0)

    # Put just that record back, from a view of the state before.
    with store.view(stray - 1) as earlier:
        volume.write(40 * RECORD, earlier.read(40 * RECORD, RECORD))
    print(f"repaired   {volume.read(40 * RECORD, RECORD)!r}")
    assert store.diff(good, store.seq, exact=True)["offset"].tolist() == [512 * 1024]
    store.close()


if __name__ == "__main__":
    main()
